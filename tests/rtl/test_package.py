# amaranth: UnusedElaboratable=no
"""What is written beside Verilog for other people's tools, held against the Verilog."""

import re
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml

from gobo_rtl import __version__
from gobo_rtl.cli import main, ports
from gobo_rtl.package import bus_interfaces, ip_xact
from gobo_rtl.units import UNITS

IPXACT = "{http://www.accellera.org/XMLSchema/IPXACT/1685-2014}"


def written(folder: Path, unit: str, name: str) -> Path:
    """Return the Verilog that the command wrote, with other files beside it."""
    assert main(["verilog", "--config", name, "--unit", unit, "-o", str(folder)]) == 0
    (path,) = folder.glob("*.v")
    return path


def verilog_ports(path: Path) -> dict[str, tuple[str, int]]:
    """Return direction and width of the ports of the module that a file is called after."""
    module = path.read_text().split(f"module {path.stem}(", 1)[1].split("endmodule", 1)[0]
    header = re.findall(r"\w+", module.split(");", 1)[0])
    found = re.findall(r"^  (in|out)put (?:\[(\d+):0\] )?(\w+);$", module, re.MULTILINE)
    ports = {name: (direction, int(left or 0) + 1) for direction, left, name in found}
    assert sorted(ports) == sorted(header)
    return ports


def text(element: ElementTree.Element, path: str) -> str:
    """Return the text of the one element there."""
    (found,) = element.findall("/".join(IPXACT + tag for tag in path.split("/")))
    return found.text or ""


def width(port: ElementTree.Element) -> int:
    """Return the bits of an IP-XACT port."""
    vectors = port.findall(f".//{IPXACT}vector")
    assert all(text(vector, "right") == "0" for vector in vectors) and len(vectors) < 2
    return int(text(vectors[0], "left")) + 1 if vectors else 1


@pytest.mark.parametrize(
    ("unit", "name"),
    [("decode", "tiny"), ("decode", "rows"), ("round", "tiny"), ("outlier_decode", "tiny")],
)
def test_tools_find_the_module_as_the_verilog_has_it(tmp_path: Path, unit: str, name: str) -> None:
    path = written(tmp_path, unit, name)
    ports = verilog_ports(path)

    root = ElementTree.parse(path.with_suffix(".xml")).getroot()
    assert root.tag == f"{IPXACT}component"
    assert [child.text for child in root[:4]] == ["gobo-rtl", "gobo", path.stem, __version__]
    found = root.findall(f"{IPXACT}model/{IPXACT}ports/{IPXACT}port")
    assert len(found) == len(ports)
    assert ports == {
        text(port, "name"): (text(port, "wire/direction"), width(port)) for port in found
    }
    assert text(root, "model/instantiations/componentInstantiation/moduleName") == path.stem
    assert (tmp_path / text(root, "fileSets/fileSet/file/name")).samefile(path)

    # FuseSoC takes the first line for a key without a value.
    core = yaml.safe_load(path.with_suffix(".core").read_text())
    assert path.with_suffix(".core").read_text().startswith("CAPI=2:\n")
    assert core["name"] == f"gobo-rtl:gobo:{path.stem}:{__version__}"
    assert core["targets"]["default"] == {"filesets": ["rtl"], "toplevel": path.stem}
    assert [tmp_path / file for file in core["filesets"]["rtl"]["files"]] == [path]
    assert core["filesets"]["rtl"]["file_type"] == "verilogSource-2005"


@pytest.mark.parametrize(
    ("unit", "buses"),
    [
        ("decode", {
            "s_axis_codebook": ("AXI4Stream", "slave"), "s_axis_index": ("AXI4Stream", "slave"),
            "s_axis_outlier": ("AXI4Stream", "slave"), "m_axis_weight": ("AXI4Stream", "master"),
        }),
        ("accelerator", {
            "s_axil": ("AXI4-Lite", "slave"),
            **{f"m_axi_{name}": ("AXI4_RO", "master")
               for name in ("index", "outlier", "act", "job")},
            "m_axi_result": ("AXI4_WO", "master"),
        }),
    ],
)  # fmt: skip
def test_bus_interfaces_have_every_port_of_a_bus_once(
    unit: str, buses: dict[str, tuple[str, str]]
) -> None:
    given = ports(UNITS[unit].component(UNITS[unit].configs["tiny"]))
    root, mapped, found = ElementTree.fromstring(ip_xact("top", "", given)), [], {}
    for bus in root.findall(f"{IPXACT}busInterfaces/{IPXACT}busInterface"):
        (kind,), (abstraction,) = bus.findall(f"{IPXACT}busType"), bus.iter(
            f"{IPXACT}abstractionRef")  # fmt: skip
        name = kind.get("name", "")
        assert abstraction.attrib == {**kind.attrib, "name": f"{name}_rtl"}
        found[text(bus, "name")] = (name, bus[-1].tag.removeprefix(IPXACT))
        pairs = {text(one, "logicalPort/name"): text(one, "physicalPort/name")
                 for one in bus.iter(f"{IPXACT}portMap")}  # fmt: skip
        assert (pairs.pop("ACLK"), pairs.pop("ARESETn")) == ("aclk", "aresetn")
        for signal, port in pairs.items():
            assert port == f"{text(bus, 'name')}_{signal.lower()}"
        mapped += pairs.values()
    assert found == buses
    single = {"aclk", "aresetn", *(["error_code", "clear"] if unit == "decode" else ["irq"])}
    assert sorted(mapped) == sorted({port["name"] for port in given} - single)


def test_the_component_of_three_ports_is_as_the_schema_has_it() -> None:
    # The file was found valid by the schema of IEEE 1685-2014, which the tests do not install.
    due = Path(__file__).with_name("bytes.xml").read_text()
    ports = [
        {"name": "aclk", "direction": "input", "width": 1},
        {"name": "m_axis_tdata", "direction": "output", "width": 8},
        {"name": "m_axis_tvalid", "direction": "output", "width": 1},
    ]
    due = due.replace(">0.1.0<", f">{__version__}<")
    assert ip_xact("bytes", "A source of bytes", ports) == due


def test_ports_without_a_bus_are_no_bus() -> None:
    names = ("aclk", "clear", "axis_tdata", "m_axi", "i__valid", "s_apb_paddr")
    ports = [{"name": name, "direction": "input", "width": 1} for name in names]
    assert bus_interfaces(ports) == {}


def test_nothing_changes_when_it_is_written_twice(tmp_path: Path) -> None:
    def state() -> dict[str, tuple[int, bytes]]:
        return {p.name: (p.stat().st_mtime_ns, p.read_bytes()) for p in tmp_path.iterdir()}

    written(tmp_path, "decode", "tiny")
    before = state()
    written(tmp_path, "decode", "tiny")
    assert state() == before and len(before) == 4
