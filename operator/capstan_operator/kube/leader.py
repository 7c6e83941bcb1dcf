"""The leader lease: one operator works at a time, and one that cannot prove it stops.

Deadlines as in client-go: a lease is good for `duration`; the holder renews every `retry` and gives up when it could
not for `renew_deadline`, which is shorter, so that it has stopped before anybody else may begin. Clocks of two machines
are never compared: a candidate waits until the lease has not changed for `duration` by its own clock.

A fence ends the process half-way between the two deadlines when it has not ended by then, whatever it is doing: its
loop may hang.

A holder that ends in order empties the lease, so that the next one begins at once. A restarted container of the same
pod has the same identity and begins at once too.
"""

import asyncio
import dataclasses
import logging
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from capstan_operator.errors import LeaseLost
from capstan_operator.kube.errors import Conflict, Forbidden, KubeError, NotFound, Unavailable
from capstan_operator.kube.fence import NO_FENCE, Fence
from capstan_operator.kube.port import KubePort
from capstan_operator.resources.api_resource import LEASES
from capstan_operator.resources.resource import Manifest

log = logging.getLogger(__name__)

LEASE_NAME: Final = "capstan-operator"
"""Of an install without a class."""

CREATOR: Final = "capstan-operator-lease"
"""The field manager that makes the lease. It owns no field of it, so making a lease that somebody took in the meantime
leaves it taken; a second apply by the manager that holds it would give up what the first one set."""


def lease_name(class_name: str) -> str:
    """Name of the Lease of an install. Those of different classes work at the same time, also from one namespace."""
    return f"{LEASE_NAME}-{class_name}" if class_name else LEASE_NAME


@dataclass(frozen=True)
class Timing:
    """Seconds."""

    duration: float = 15.0
    renew_deadline: float = 10.0
    retry: float = 2.0

    @property
    def acquire_deadline(self) -> float:
        """How long the write that takes the lease may need: what is left after it is for the first renewal."""
        return self.renew_deadline / 2

    @property
    def fence(self) -> float:
        """After which time without a renewal the process must have ended."""
        return (self.renew_deadline + self.duration) / 2


class Leader:
    """Acquire, keep and release one Lease."""

    def __init__(
        self,
        kube: KubePort,
        *,
        namespace: str,
        identity: str,
        name: str = LEASE_NAME,
        timing: Timing = Timing(),
        fence: Fence = NO_FENCE,
    ) -> None:
        self._kube = kube
        self._namespace = namespace
        self._name = name
        self._identity = identity
        self._timing = timing
        self._fence = fence
        self._said = ""
        self._held: Manifest | None = None
        self._renewed = 0.0
        """When the last successful write of the lease began, by the loop's clock: others count from that write."""

    @property
    def holds(self) -> bool:
        """Whether the lease was ours when last written."""
        return self._held is not None

    async def acquire(self) -> None:
        """Wait until the lease is ours."""
        seen: tuple[str, float] | None = None
        log.info(
            "waiting for the leader lease",
            extra={"namespace": self._namespace, "lease": self._name, "identity": self._identity},
        )
        while True:
            try:
                lease = await self._read()
                seen = self._observe(lease, seen)
                if self._is_free(lease, seen):
                    async with asyncio.timeout(self._timing.acquire_deadline):
                        await self._hold(lease, taking=True)
                    log.info("acquired the leader lease", extra={"identity": self._identity})
                    return
            except Conflict:
                continue  # somebody else wrote it first: look again
            except KubeError as error:
                self._warn("could not read or take the leader lease", error)
            except TimeoutError:
                # NB: it may have been carried out; then the lease says so, and is taken anew with all its time.
                self._warn("could not read or take the leader lease", Unavailable("no answer in time"))
            await asyncio.sleep(self._timing.retry)

    async def keep(self) -> None:
        """Renew for ever. Raises LeaseLost when it was not possible in time, or when somebody else holds it."""
        if self._held is None:
            raise LeaseLost("the lease was never acquired")
        while True:
            await asyncio.sleep(self._timing.retry)
            try:
                async with asyncio.timeout_at(self._renewed + self._timing.renew_deadline):
                    await self._renew_until_done()
            except TimeoutError as error:
                self._held = None
                raise LeaseLost(f"the lease was not renewed for {self._timing.renew_deadline:.0f} s") from error

    async def release(self) -> None:
        """Empty the lease if it is ours, so that the next one need not wait. Whoever calls this has stopped working."""
        if self._held is None:
            return  # NB: a lease that was lost leaves the fence armed
        self._fence.disarm()
        held, self._held = self._held, None
        try:
            async with asyncio.timeout(self._timing.retry):
                await self._kube.apply(_lease(held["metadata"], holder=None, duration=1, renewed=_now()))
            log.info("released the leader lease", extra={"identity": self._identity})
        except (KubeError, TimeoutError) as error:
            log.warning("could not release the leader lease", extra={"error": str(error)})

    async def _renew_until_done(self) -> None:
        while True:
            try:
                await self._hold(self._held or {}, taking=False)
                return
            except Conflict:
                await self._look_again()
            except KubeError as error:
                self._warn("could not renew the leader lease", error)
                await asyncio.sleep(self._timing.retry / 2)

    async def _look_again(self) -> None:
        """Another writer was there: the lease is still ours only if it says so."""
        try:
            lease = await self._read()
        except KubeError as error:
            self._warn("could not read the leader lease", error)
            await asyncio.sleep(self._timing.retry / 2)
            return
        if _holder(lease) != self._identity:
            self._held = None
            raise LeaseLost(f"the lease is held by '{_holder(lease)}'")
        self._held = lease

    def _warn(self, what: str, error: KubeError) -> None:
        """Say what went wrong, once for as long as it is the same."""
        if str(error) != self._said:
            self._said = str(error)
            missing = error.missing if isinstance(error, Forbidden) else None
            right = {} if missing is None else dataclasses.asdict(missing)
            log.warning(what, extra={"error": str(error), **right})

    async def _hold(self, lease: Manifest, *, taking: bool) -> None:
        """Write the lease. Raises TimeoutError when the answer comes so late that it is worth nothing."""
        # NB: the time before the write, not that of its answer, which may come late.
        started = asyncio.get_running_loop().time()
        written = await self._write(lease, taking=taking)
        left = started + self._timing.fence - asyncio.get_running_loop().time()
        if left <= 0:
            raise TimeoutError
        self._held = written
        self._renewed = started
        self._said = ""
        self._fence.extend(left)

    async def _read(self) -> Manifest:
        """Give the lease. One that does not exist is made empty first: two candidates can both do that, and then
        only one of them wins the write that carries the resourceVersion."""
        try:
            return await self._kube.get(LEASES, self._name, namespace=self._namespace)
        except NotFound:
            empty: Manifest = {
                "apiVersion": LEASES.api_version,
                "kind": LEASES.kind,
                "metadata": {"name": self._name, "namespace": self._namespace},
            }
            return await self._kube.apply(empty, manager=CREATOR)

    def _observe(self, lease: Manifest, seen: tuple[str, float] | None) -> tuple[str, float]:
        version = str(lease["metadata"].get("resourceVersion", ""))
        if seen is not None and seen[0] == version:
            return seen
        return version, asyncio.get_running_loop().time()

    def _is_free(self, lease: Manifest, seen: tuple[str, float]) -> bool:
        holder = _holder(lease)
        if not holder or holder == self._identity:
            return True
        duration = float((lease.get("spec") or {}).get("leaseDurationSeconds") or self._timing.duration)
        return asyncio.get_running_loop().time() - seen[1] >= duration

    async def _write(self, lease: Manifest, *, taking: bool) -> Manifest:
        spec = lease.get("spec") or {}
        now = _now()
        acquired = now if taking and _holder(lease) != self._identity else spec.get("acquireTime", now)
        transitions = int(spec.get("leaseTransitions") or 0) + (1 if taking and _holder(lease) != self._identity else 0)
        written = _lease(
            lease["metadata"],
            holder=self._identity,
            duration=max(int(self._timing.duration), 1),
            renewed=now,
            acquired=acquired,
            transitions=transitions,
        )
        return await self._kube.apply(written)


def _holder(lease: Manifest) -> str:
    return str((lease.get("spec") or {}).get("holderIdentity") or "")


def _now() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")


def _lease(
    metadata: Manifest,
    *,
    holder: str | None,
    duration: int,
    renewed: str,
    acquired: str | None = None,
    transitions: int | None = None,
) -> Manifest:
    """The manifest to apply; a resourceVersion in `metadata` makes the write conditional on it."""
    spec = {
        "holderIdentity": holder,
        "leaseDurationSeconds": duration,
        "renewTime": renewed,
        "acquireTime": acquired,
        "leaseTransitions": transitions,
    }
    kept = {key: metadata[key] for key in ("name", "namespace", "uid", "resourceVersion") if key in metadata}
    return {
        "apiVersion": LEASES.api_version,
        "kind": LEASES.kind,
        "metadata": kept,
        "spec": {key: value for key, value in spec.items() if value is not None},
    }
