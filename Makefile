# Everything runs in .venv, which the first target makes; `make help` lists the targets.
.DEFAULT_GOAL := help
SHELL := /bin/sh
export AMARANTH_USE_YOSYS := builtin

# Any Python that runs can start the set-up, which then looks for one that is new enough.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 /usr/bin/python3; do \
    "$$p" -c "" 2>/dev/null && { command -v "$$p"; break; }; done)
SETUP := @"$(PYTHON)" tools/bootstrap.py
RUN := .venv/bin/python -m

JOBS ?= logical#              processes that share the tests, at most 8: one a core, or a number
SIM ?= both#                  simulators of `make sim`: icarus, verilator or both
LIBERTY ?=#                   cell library of `make synth`: .lib or .lib.gz files
PDK ?=#                       or one by name: sg13g2, sky130, asap7, osu180
PDK_DIR ?=#                   and where its process kit is
REPORT ?=#                    page that `make fpga`, `make utilisation` write, as docs/results/fpga.md
HOST ?=#                      host array of `make model-sim`: tpu, eyeriss or tensor_core
HOSTS ?=#                     more for `make hosts`, as --all or --host tpu
EXPLORE ?=#                   more for `make explore`, as --quick

# pytest by itself has one process, and no other to look for when a test is debugged.
PYTEST := $(RUN) pytest -n $(JOBS)

LIBRARY = $(if $(LIBERTY),--liberty $(LIBERTY)) $(if $(PDK),--pdk $(PDK)) \
    $(if $(PDK_DIR),--pdk-dir "$(PDK_DIR)")

.PHONY: help demo example test test-torch verilog sim model-sim cycles hosts synth synth-history power pes explore fpga utilisation lint bench proof
.PHONY: exhaustive sabotage clean .venv .venv-torch .venv-bench .venv-fpga

help:  ## list the targets
	@sed -n 's/^\([a-z][a-z-]*\):.*## /\1\t/p' Makefile | while IFS="$$(printf '\t')" read -r name text; \
	    do printf '  make %-13s %s\n' "$$name" "$$text"; done

.venv:  ## make or mend .venv and check the system's tools (the others do it themselves)
	$(SETUP)
.venv-torch:
	$(SETUP) torch
.venv-bench:
	$(SETUP) bench
.venv-fpga:
	$(SETUP) fpga

demo: .venv  ## the main job, on a real model: quantise, decode and compute in simulated Verilog
	@$(RUN) demo

example: .venv  ## the emitted decode unit before an array in plain Verilog, on a trained layer
	@$(RUN) examples.plug_in

test: .venv  ## everything that is tested, without torch
	@$(PYTEST)

test-torch: .venv-torch  ## what needs torch and transformers
	@$(PYTEST) tests/torch

verilog: .venv  ## Verilog of all named configurations, into build/verilog, and lint of accelerators
	@$(RUN) gobo_rtl verilog --all -o build/verilog
	@$(RUN) tools.lint build/verilog/accelerator_*.v

sim: .venv  ## the emitted Verilog under cocotb, and the longest sums; SIM=icarus, verilator or both
	@SIM=$(SIM) $(PYTEST) tests/verilog tests/rtl/test_array.py

model-sim: .venv  ## a trained model through the simulated accelerator, or BERT-tiny through HOST; resumable
	@$(RUN) sim.verilated model-sim $(if $(HOST),--host $(HOST) --model bert-tiny)

cycles: .venv  ## cycles of one encoder of BERT-Base on the simulated accelerator
	@$(RUN) sim.verilated cycles

hosts: .venv  ## cycles of the host arrays with plain and 3-bit weights; HOSTS=--all for all; resumable
	@$(RUN) sim.verilated hosts $(HOSTS)

synth: .venv  ## area, critical path and limits of decode units and blocks; LIBERTY=file or PDK=name
	@$(RUN) gobo_rtl verilog --all --unit decode -o build/verilog
	@$(RUN) gobo_rtl verilog --config tiny --config tpu_tiny --unit blocks -o build/blocks/tiny
	@$(RUN) synth run $(LIBRARY) $(HISTORY)
	@$(RUN) synth run --unit blocks --verilog build/blocks/tiny --clock 5 $(LIBRARY) $(HISTORY)

synth-history: HISTORY := --history docs/results/synth-history.csv
synth-history: synth  ## the same, and a line for each with the commit in docs/results/synth-history.csv

power: .venv  ## energy of a column of PEs at work on a real layer; LIBERTY or PDK, and OpenSTA
	@$(RUN) sim.workload --config default -o build/workload/default.npz
	@$(RUN) gobo_rtl verilog --config default --unit column -o build/blocks
	@$(RUN) synth power --unit column --config default --verilog build/blocks \
	    --trace build/workload/default.npz $(LIBRARY)

pes: .venv  ## PEs, blocks, arrays in tables: area, path, energy; LIBERTY or PDK; resumable, two hours
	@$(RUN) synth table --report build/synth/synthesis.md $(LIBRARY)

explore: .venv  ## PEs side by side, as a page with Pareto plots; LIBERTY or PDK; resumable, hours
	@$(RUN) synth explore --picture build/explore/pareto.svg $(LIBRARY) $(EXPLORE)

fpga: .venv-fpga  ## a design for the ULX3S 85F that tests itself, to build/fpga/ulx3s/top.bit
	@$(RUN) fpga build $(if $(REPORT),--report $(REPORT))

utilisation: .venv-fpga  ## what units take of an ECP5 and of iCE40s, and how fast; resumable
	@$(RUN) fpga utilisation $(if $(REPORT),--report $(REPORT))

# Of accelerators and hosts; the other accelerators, which take minutes, in `make verilog`.
LINTED := tiny edge default tpu_tiny eyeriss_tiny tensor_core_tiny

lint: .venv  ## ruff, mypy, Verilator's lint of the emitted Verilog, and others' of the decode units
	@$(RUN) ruff check .
	@$(RUN) mypy
	@$(RUN) gobo_rtl verilog --all --unit decode -o build/verilog
	@$(RUN) gobo_rtl verilog $(foreach name,$(LINTED),--config $(name)) -o build/lint
	@$(RUN) gobo_rtl verilog --config tiny --set pe=bins -o build/lint
	@$(RUN) tools.lint build/lint/accelerator_*.v build/lint/host_*.v
	@$(RUN) tools.lint --tool all build/verilog/decode_*.v

bench: .venv-bench  ## the quantiser's speed and memory beside other clusterings
	@$(RUN) bench

proof: .venv  ## the solver's proofs: nothing lost, doubled or changed under any stalling
	@$(PYTEST) -v tests/formal

exhaustive: .venv  ## the number units over all pairs of FP16, and millions of FP32
	@$(RUN) tests.exhaustive

sabotage: .venv  ## plant faults, one after the other, and see each one caught
	@$(RUN) tests.sabotage

clean:  ## remove build/ (.venv stays)
	rm -rf build
