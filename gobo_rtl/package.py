"""What other people's tools read of an emitted module: a FuseSoC core file (CAPI2) and an IP-XACT
component (IEEE 1685-2014)."""

import re
from collections.abc import Mapping, Sequence
from typing import Any
from xml.etree import ElementTree

from . import __version__

__all__ = ["LIBRARY", "VENDOR", "bus_interfaces", "core_file", "implied_ports", "ip_xact"]

VENDOR, LIBRARY = "gobo-rtl", "gobo"
"""With a module's name and the version: what the module is called among others' cores."""

_NAMESPACE = "http://www.accellera.org/XMLSchema/IPXACT/1685-2014"
_BUSES = {"axis": "AXI4Stream", "axi": "AXI4", "axil": "AXI4-Lite"}
_VERSIONS = {"AXI4Stream": "r0p0_1"}  # of others r0p0_0
"""Arm's definitions of buses, in the library AMBA4 of amba.com."""

_BUS_PORT = re.compile(r"(?P<bus>(?P<role>[ms])_(?P<kind>axis|axil?)(?:_\w+)?)_(?P<signal>[a-z]+)")
_ROLES = {"m": "master", "s": "slave"}

Port = Mapping[str, Any]
"""``name``, ``direction`` (``input``, ``output``), ``width`` in bits."""


def implied_ports(text: str, top: str) -> list[dict[str, Any]]:
    """Return clock and reset that the module ``top`` has in Verilog and not in its component."""
    module = text.split(f"module {top}(", 1)[1].split("endmodule", 1)[0]
    return [
        {"name": name, "direction": "input", "width": 1}
        for name in ("clk", "rst") if re.search(rf"^  input {name};$", module, re.MULTILINE)
    ]  # fmt: skip


def bus_interfaces(ports: Sequence[Port]) -> dict[str, dict[str, str]]:
    """Return the buses among ports in AXI's names: of each its signals, and the ports they are."""
    found: dict[str, dict[str, str]] = {}
    for port in ports:
        if match := _BUS_PORT.fullmatch(port["name"]):
            found.setdefault(match["bus"], {})[match["signal"].upper()] = port["name"]
    names = {port["name"] for port in ports}
    common = {"ACLK": "aclk", "ARESETn": "aresetn"}
    for signals in found.values():
        signals.update((signal, name) for signal, name in common.items() if name in names)
    return found


def core_file(top: str, about: str) -> str:
    """Return the core file of the module ``top``, in a folder with ``top.v``."""
    return f"""CAPI=2:

name: {VENDOR}:{LIBRARY}:{top}:{__version__}
description: "{about}"

filesets:
  rtl:
    files:
      - {top}.v
    file_type: verilogSource-2005

targets:
  default:
    filesets: [rtl]
    toplevel: {top}
"""


def ip_xact(top: str, about: str, ports: Sequence[Port]) -> str:
    """Return the IP-XACT component of the module ``top``, in a folder with ``top.v``."""
    ElementTree.register_namespace("ipxact", _NAMESPACE)
    root = ElementTree.Element(f"{{{_NAMESPACE}}}component")
    names = {"vendor": VENDOR, "library": LIBRARY, "name": top, "version": __version__}
    for tag, text in names.items():
        _add(root, tag, text)
    if buses := bus_interfaces(ports):
        group = _add(root, "busInterfaces")
        for bus, signals in buses.items():
            _bus(group, bus, signals)
    model = _add(root, "model")
    view = _add(_add(model, "views"), "view")
    _add(view, "name", "rtl")
    _add(view, "componentInstantiationRef", "verilog")
    made = _add(_add(model, "instantiations"), "componentInstantiation")
    _add(made, "name", "verilog")
    _add(made, "language", "Verilog")
    _add(made, "moduleName", top)
    _add(_add(made, "fileSetRef"), "localName", "rtl")
    group = _add(model, "ports")
    for port in ports:
        _port(group, port)
    files = _add(_add(root, "fileSets"), "fileSet")
    _add(files, "name", "rtl")
    file = _add(files, "file")
    _add(file, "name", f"{top}.v")
    _add(file, "fileType", "verilogSource")  # the standard's years end with 2001
    _add(root, "description", about)
    ElementTree.indent(root)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{ElementTree.tostring(root, "unicode")}\n'


def _add(parent: ElementTree.Element, tag: str, text: str = "") -> ElementTree.Element:
    child = ElementTree.SubElement(parent, f"{{{_NAMESPACE}}}{tag}")
    child.text = text or None
    return child


def _bus(group: ElementTree.Element, bus: str, signals: Mapping[str, str]) -> None:
    role, kind = bus.split("_")[:2]
    name = _BUSES[kind]
    if kind == "axi":  # a channel that never writes, or never reads, has a definition of its own
        name += "_RO" * ("AWVALID" not in signals) + "_WO" * ("ARVALID" not in signals)
    interface = _add(group, "busInterface")
    _add(interface, "name", bus)
    _definition(interface, "busType", name, name)
    abstraction = _add(_add(interface, "abstractionTypes"), "abstractionType")
    _definition(abstraction, "abstractionRef", name, f"{name}_rtl")
    maps = _add(abstraction, "portMaps")
    for signal, port in signals.items():
        one = _add(maps, "portMap")
        _add(_add(one, "logicalPort"), "name", signal)
        _add(_add(one, "physicalPort"), "name", port)
    _add(interface, _ROLES[role])


def _definition(parent: ElementTree.Element, tag: str, bus: str, name: str) -> None:
    version = _VERSIONS.get(bus, "r0p0_0")
    attributes = {"vendor": "amba.com", "library": "AMBA4", "name": name, "version": version}
    _add(parent, tag).attrib.update(attributes)


def _port(group: ElementTree.Element, port: Port) -> None:
    one = _add(group, "port")
    _add(one, "name", port["name"])
    wire = _add(one, "wire")
    _add(wire, "direction", port["direction"].removesuffix("put"))
    if port["width"] > 1:
        vector = _add(_add(wire, "vectors"), "vector")
        _add(vector, "left", str(port["width"] - 1))
        _add(vector, "right", "0")
