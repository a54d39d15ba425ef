"""The decode unit before an array in plain Verilog: ``python -m examples.plug_in``, which
`make example` runs; docs/plug-in.md goes through it."""
