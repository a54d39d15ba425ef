"""A host with its bus: AXI4 masters, AXI4-Lite registers, an interrupt."""

from ..host_config import HostConfig
from ..top.accelerator import Accelerator, Core
from ..top.engine import Engine
from ..top.fetch import Fetch
from .engine import HostEngine
from .plain_fetch import PlainFetch

__all__ = ["HostTop", "HostUnit"]


class HostUnit(Core):
    """Everything of a host, with its buses as interfaces; those of the accelerator.

    Paper
    -----
    Our own choice: docs/hosts.md section 1.

    Parameters
    ----------
    config : HostConfig
        All sizes.

    Timing
    ------
    docs/hosts.md section 3.

    Numerics
    --------
    docs/hosts.md section 3.
    """

    def __init__(self, config: HostConfig):
        self.host = config
        super().__init__(config.array)

    def parts(self) -> tuple[Fetch, Engine]:
        """Return what fetches jobs, and what runs their layers."""
        host = self.host
        fetch = Fetch(host.array) if host.weights == "gobo" else PlainFetch(host)
        return fetch, HostEngine(host)


class HostTop(Accelerator):
    """A host with AXI4 and AXI4-Lite names, ready to be instantiated from Verilog.

    Parameters
    ----------
    config : HostConfig
        All sizes.

    Timing
    ------
    That of :class:`HostUnit`.

    Numerics
    --------
    Those of :class:`HostUnit`.
    """

    def __init__(self, config: HostConfig):
        self.host = config
        super().__init__(config.array)

    def core(self) -> Core:
        """Return all of it but the names."""
        return HostUnit(self.host)
