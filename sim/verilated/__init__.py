"""The emitted Verilog of the accelerator in Verilator, driven in C++: whole layers and models."""
