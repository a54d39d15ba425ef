# amaranth: UnusedElaboratable=no
"""Every component says what STYLE.md asks for, and its Members are its ports."""

import ast
import inspect
import re
from fnmatch import fnmatchcase
from pathlib import Path

import pytest
from amaranth.lib import wiring

from fpga.checks import DecodeCheck, ResultCheck
from fpga.compare import Compare
from fpga.host import Host
from fpga.line import Line
from fpga.ram import Ram
from fpga.selftest import SelfTest
from fpga.stored import Stored
from fpga.uart import Transmitter
from gobo_rtl.array.act_buffer import ActBuffer
from gobo_rtl.array.act_loader import ActLoader
from gobo_rtl.array.array import Array
from gobo_rtl.array.bias_loader import BiasLoader
from gobo_rtl.array.finish import Finish
from gobo_rtl.array.fork import Fork
from gobo_rtl.array.replay import Replay
from gobo_rtl.array.result_writer import ResultWriter
from gobo_rtl.array.schedule import Schedule as PassSchedule
from gobo_rtl.array.steps import Steps
from gobo_rtl.array.strip_buffer import Ring, StripBuffer
from gobo_rtl.array.weight_loader import WeightLoader
from gobo_rtl.array_config import ARRAYS, ArrayConfig
from gobo_rtl.array_layout import IndexWordLayout
from gobo_rtl.bus.axi import Bursts
from gobo_rtl.bus.axi_lite import AxiLiteSlave, Registers
from gobo_rtl.bus.axi_stream import DecodeAxis
from gobo_rtl.bus.read_arbiter import ReadArbiter
from gobo_rtl.bus.read_master import ReadMaster
from gobo_rtl.bus.write_master import WriteMaster
from gobo_rtl.config import CONFIGS
from gobo_rtl.decode import DecodeUnit
from gobo_rtl.decode.checks import Checks
from gobo_rtl.decode.index_reader import IndexReader
from gobo_rtl.decode.lanes import Lanes
from gobo_rtl.decode.merge import Merge
from gobo_rtl.decode.outlier_reader import OutlierReader
from gobo_rtl.decode.schedule import Schedule
from gobo_rtl.decode.unpacker import Unpacker
from gobo_rtl.formats import JOB, VALUE_FORMATS
from gobo_rtl.host_config import HOSTS
from gobo_rtl.hosts.accumulator import Accumulator
from gobo_rtl.hosts.act_tile import ActTile
from gobo_rtl.hosts.drain import Drain
from gobo_rtl.hosts.engine import HostEngine
from gobo_rtl.hosts.eyeriss import EyerissArray, EyerissPE
from gobo_rtl.hosts.front_end import FrontEnd
from gobo_rtl.hosts.host import HostTop, HostUnit
from gobo_rtl.hosts.narrow import Narrow
from gobo_rtl.hosts.plain import PlainReader
from gobo_rtl.hosts.plain_fetch import PlainFetch
from gobo_rtl.hosts.tensor_core import Dot, TensorCoreArray
from gobo_rtl.hosts.tpu import TpuArray, TpuPE, TpuRow
from gobo_rtl.pe.add_bias import AddBias
from gobo_rtl.pe.align import Aligner
from gobo_rtl.pe.bins import Bins
from gobo_rtl.pe.bins_fp16 import BinsFp16, BinsFp16PE, CombineFp16
from gobo_rtl.pe.combine import Combine, Resolve
from gobo_rtl.pe.float_adder import FloatAdder
from gobo_rtl.pe.float_multiplier import FloatMultiplier
from gobo_rtl.pe.holding import Holding
from gobo_rtl.pe.int8 import Int8PE
from gobo_rtl.pe.mac import Mac, MacPE
from gobo_rtl.pe.outlier import OutlierDecode, OutlierProduct
from gobo_rtl.pe.products import Products
from gobo_rtl.pe.round import Round
from gobo_rtl.pe.select import Select
from gobo_rtl.top.accelerator import Accelerator, Core
from gobo_rtl.top.codebook import CodebookReader
from gobo_rtl.top.control import Control
from gobo_rtl.top.divide import Divide
from gobo_rtl.top.engine import Engine
from gobo_rtl.top.fetch import Fetch
from gobo_rtl.top.record import RecordReader
from gobo_rtl.units import Flat

SECTIONS = ["Paper", "Parameters", "Members", "Timing", "Numerics"]
CONFIG = CONFIGS["rows"]  # has all optional ports
STORED = Stored(
    config=ARRAYS["tiny"], memory=[0], codebook=0, index_width=3, indexes=(0, 1), outliers=(0, 1),
    groups=[0], results=0, result_beats=[0],
)  # fmt: skip
COMPONENTS = [
    Unpacker(64, (8, 16)),
    *(kind(CONFIG) for kind in (DecodeAxis, DecodeUnit, IndexReader, OutlierReader)),
    *(kind(CONFIG) for kind in (Merge, Schedule, Lanes, Checks)),
    *(FloatMultiplier(), FloatAdder(VALUE_FORMATS["fp32"], running=True), MacPE()),
    *(BinsFp16PE(), Int8PE()),
    *(Holding(8, 4, 2), Flat(Holding(8, 4, 2))),
    *(kind(ARRAYS["tiny"]) for kind in (Aligner, OutlierDecode, OutlierProduct, Select)),
    *(kind(ARRAYS["tiny"]) for kind in (Products, Bins, Combine, Resolve, Array, Finish, Round)),
    *(kind(ArrayConfig(pe="mac")) for kind in (Mac, AddBias)),
    *(kind(ArrayConfig(pe="bins_fp16")) for kind in (BinsFp16, CombineFp16)),
    *(Replay(8), Ring(IndexWordLayout(ARRAYS["tiny"]), 8)),
    *(kind(ARRAYS["tiny"]) for kind in (PassSchedule, Steps, StripBuffer, ActBuffer)),
    *(kind(ARRAYS["tiny"]) for kind in (ActLoader, WeightLoader, BiasLoader)),
    *(kind(ARRAYS["tiny"]) for kind in (Engine, Control, Core, Accelerator)),
    Fork(IndexWordLayout(ARRAYS["tiny"]), 2),
    *(kind(ARRAYS["tiny"]) for kind in (Bursts, ReadMaster, WriteMaster, Registers)),
    *(kind(ARRAYS["tiny"]) for kind in (ResultWriter, CodebookReader, Fetch)),
    *(ReadArbiter(ARRAYS["tiny"], 2), AxiLiteSlave(), Divide(16, 3)),
    RecordReader(JOB, {"tag": 32}, {}),
    *(Accumulator(4), TpuPE(), TpuRow(4), Narrow(), Dot()),
    TensorCoreArray(HOSTS["tensor_core_tiny"]),
    *(kind(HOSTS["eyeriss_tiny"]) for kind in (EyerissPE, EyerissArray)),
    *(kind(HOSTS["tpu_tiny"]) for kind in (Drain, TpuArray, ActTile, FrontEnd, PlainReader)),
    *(kind(HOSTS["tpu_tiny"]) for kind in (PlainFetch, HostEngine, HostUnit, HostTop)),
    *(DecodeCheck(STORED), ResultCheck(STORED), SelfTest(STORED, "")),
    *(Compare(8, 1, 0, [0]), Ram(ARRAYS["tiny"], [0], 1), Host(), Line(""), Transmitter(2)),
]
BUILT = {"Board"}  # needs boards' pins, which `make fpga` installs


def sections(component: wiring.Component) -> dict[str, str]:
    """Return the sections of a component's docstring, in their order; what it leaves out is as in
    the component that it is derived from."""
    found: dict[str, str] = {}
    for kind in reversed(type(component).mro()):
        if issubclass(kind, wiring.Component) and kind is not wiring.Component:
            parts = re.split(r"^(\w+)\n-+\n", inspect.cleandoc(kind.__doc__ or ""),
                             flags=re.MULTILINE)  # fmt: skip
            found |= zip(parts[1::2], parts[2::2], strict=True)
    return found


def members(text: str) -> list[str]:
    """Return the names, patterns among them, that a Members section explains."""
    heads = re.findall(r"^(\S[^:\n]*) :", text, re.MULTILINE)
    return [name for head in heads for name in re.split(r",\s*", head)]


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda c: type(c).__name__)
def test_the_five_sections_are_there_in_order(component: wiring.Component) -> None:
    found = sections(component)
    assert list(found) == SECTIONS
    assert all(text.strip() for text in found.values())


@pytest.mark.parametrize("component", COMPONENTS, ids=lambda c: type(c).__name__)
def test_members_are_the_ports(component: wiring.Component) -> None:
    told, ports = members(sections(component)["Members"]), set(component.signature.members)
    untold = {port for port in ports if not any(fnmatchcase(port, name) for name in told)}
    assert not untold, f"not explained: {sorted(untold)}"
    gone = [name for name in told if not any(fnmatchcase(port, name) for port in ports)]
    assert not gone, f"no such ports: {gone}"


def test_no_component_is_left_out() -> None:
    bases: dict[str, set[str]] = {}
    for path in [*Path("gobo_rtl").rglob("*.py"), *Path("fpga").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.ClassDef):
                names = {ast.unparse(base).rpartition(".")[2] for base in node.bases}
                bases.setdefault(node.name, set()).update(names)
    found = {"Component"}
    while more := {name for name in bases if bases[name] & found} - found:
        found |= more
    derived_from = set().union(*(bases[name] for name in found - {"Component"}))
    told = {type(component).__name__ for component in COMPONENTS}
    assert found - derived_from - BUILT <= told <= found - BUILT
