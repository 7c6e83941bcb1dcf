"""An API server from the programs of KUBEBUILDER_ASSETS, laid out as the test cluster lays out its own: a kubeconfig,
and a pid and a log for each process."""

import base64
import ctypes
import json
import os
import signal
import ssl
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from support.needs import need_binary
from support.wait import wait_until

MANAGER = "kube-controller-manager"
_LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None
_PR_SET_PDEATHSIG = 1  # prctl(2)
_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


@contextmanager
def run_envtest(programs: Path, home: Path, *, port: int, controllers: bool) -> Iterator[Path]:
    """Start etcd and kube-apiserver, and the controller manager where there is one and it is asked for; give the
    kubeconfig of an administrator; end them all. Uses `port` and the next three."""
    need_binary("openssl", "openssl")
    pki = _Pki(home / "pki")
    for folder in (home / "pids", home / "logs"):
        folder.mkdir(parents=True)
    kubeconfig = pki.prepare(home, f"https://127.0.0.1:{port}")
    started: list[subprocess.Popen[bytes]] = []

    def start(name: str, *arguments: str) -> None:
        with (home / "logs" / f"{name}.log").open("ab") as log:
            process = subprocess.Popen(
                [str(programs / name), *arguments], stdout=log, stderr=log, cwd="/", preexec_fn=_end_with_us
            )
        (home / "pids" / name).write_text(str(process.pid))
        started.append(process)

    def is_ready() -> bool:
        for process in started:
            name = Path(str(process.args[0])).name  # type: ignore[index]
            if process.poll() is not None:
                raise RuntimeError(f"{name} has ended: {(home / 'logs' / f'{name}.log').read_text()[-2000:]}")
        return _answers(pki, port)

    try:
        start("etcd", *_etcd(home, port + 2))
        start("kube-apiserver", *_api_server(pki, port, f"http://127.0.0.1:{port + 2}"))
        wait_until(is_ready, seconds=120, what="the API server")
        if controllers and (programs / MANAGER).is_file():
            start(MANAGER, *_manager(pki, home, port + 1))
        yield kubeconfig
    finally:
        for process in reversed(started):
            process.terminate()
        for process in reversed(started):
            _end(process)
        _end_successor(home / "pids" / "kube-apiserver")


def _end_with_us() -> None:
    """In a child: let the kernel end it when whoever started it is killed, and ends nothing any more."""
    if _LIBC is not None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def _end(process: subprocess.Popen[bytes]) -> None:
    try:
        process.wait(20)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait(20)


def _end_successor(pidfile: Path) -> None:
    """End the API server that a test has started in place of ours (`apiserver.stop_api_server`)."""
    pid = int(pidfile.read_text().split()[0])
    try:
        if Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")[0].endswith(b"kube-apiserver"):
            os.kill(pid, signal.SIGKILL)
    except OSError:
        return  # it was the one that has ended


def _etcd(home: Path, port: int) -> list[str]:
    client, peer = f"http://127.0.0.1:{port}", f"http://127.0.0.1:{port + 1}"
    return [
        "--data-dir", str(home / "etcd"), "--unsafe-no-fsync", "--log-level", "warn",
        "--listen-client-urls", client, "--advertise-client-urls", client,
        "--listen-peer-urls", peer, "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}",
    ]  # fmt: skip


def _api_server(pki: "_Pki", port: int, etcd: str) -> list[str]:
    return [
        "--etcd-servers", etcd, "--secure-port", str(port), "--bind-address", "127.0.0.1",
        "--advertise-address", "127.0.0.1", "--service-cluster-ip-range", "10.96.0.0/16",
        "--client-ca-file", pki.file("ca.crt"), "--authorization-mode", "RBAC",
        "--tls-cert-file", pki.file("apiserver.crt"), "--tls-private-key-file", pki.file("apiserver.key"),
        "--service-account-issuer", "https://kubernetes.default.svc.cluster.local",
        "--service-account-key-file", pki.file("accounts.pub"),
        "--service-account-signing-key-file", pki.file("accounts.key"),
        "--requestheader-client-ca-file", pki.file("front-proxy-ca.crt"),
        "--requestheader-allowed-names", "front-proxy-client",
        "--requestheader-username-headers", "X-Remote-User", "--requestheader-group-headers", "X-Remote-Group",
        "--requestheader-extra-headers-prefix", "X-Remote-Extra-",
        "--proxy-client-cert-file", pki.file("front-proxy-client.crt"),
        "--proxy-client-key-file", pki.file("front-proxy-client.key"),
        "--endpoint-reconciler-type", "none",
    ]  # fmt: skip


def _manager(pki: "_Pki", home: Path, port: int) -> list[str]:
    kubeconfig = str(home / "manager.conf")
    return [
        "--kubeconfig", kubeconfig, "--authentication-kubeconfig", kubeconfig, "--authorization-kubeconfig", kubeconfig,
        "--bind-address", "127.0.0.1", "--secure-port", str(port), "--root-ca-file", pki.file("ca.crt"),
        "--cluster-signing-cert-file", pki.file("ca.crt"), "--cluster-signing-key-file", pki.file("ca.key"),
        "--service-account-private-key-file", pki.file("accounts.key"), "--use-service-account-credentials",
        "--leader-elect=false", "--horizontal-pod-autoscaler-sync-period=2s",
    ]  # fmt: skip


def _answers(pki: "_Pki", port: int) -> bool:
    context = ssl.create_default_context(cafile=pki.file("ca.crt"))
    context.load_cert_chain(pki.file("admin.crt"), pki.file("admin.key"))
    try:
        with urllib.request.urlopen(f"https://127.0.0.1:{port}/readyz", context=context, timeout=5) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


@dataclass(frozen=True)
class _Pki:
    """Keys and certificates in a folder, made by openssl."""

    folder: Path

    def file(self, name: str) -> str:
        return str(self.folder / name)

    def prepare(self, home: Path, server: str) -> Path:
        """Make all that an API server needs, and a kubeconfig for its administrator and its controllers."""
        self.folder.mkdir(parents=True)
        for authority in ("ca", "front-proxy-ca"):
            self._openssl(
                "req", "-x509", *_KEY, "-days", "30", "-subj", f"/CN={authority}",
                "-keyout", f"{authority}.key", "-out", f"{authority}.crt",
                "-addext", "keyUsage=critical,keyCertSign,digitalSignature",
            )  # fmt: skip
        self._openssl("genrsa", "-out", "accounts.key", "2048")
        self._openssl("rsa", "-in", "accounts.key", "-pubout", "-out", "accounts.pub")
        names = "DNS:localhost,DNS:kubernetes.default.svc,IP:127.0.0.1,IP:10.96.0.1"
        self._issue("apiserver", "/CN=kube-apiserver", names=names)
        self._issue("front-proxy-client", "/CN=front-proxy-client", authority="front-proxy-ca")
        self._issue("admin", "/O=system:masters/CN=admin")
        self._issue("manager", "/CN=system:kube-controller-manager")
        self._write_kubeconfig("manager", home / "manager.conf", server)
        return self._write_kubeconfig("admin", home / "kubeconfig", server)

    def _issue(self, name: str, subject: str, *, authority: str = "ca", names: str = "") -> None:
        lines = ["keyUsage=critical,digitalSignature", "extendedKeyUsage=clientAuth,serverAuth"]
        lines += [f"subjectAltName={names}"] if names else []
        (self.folder / f"{name}.ext").write_text("\n".join(lines) + "\n")
        self._openssl("req", *_KEY, "-subj", subject, "-keyout", f"{name}.key", "-out", f"{name}.csr")
        self._openssl(
            "x509", "-req", "-in", f"{name}.csr", "-CA", f"{authority}.crt", "-CAkey", f"{authority}.key",
            "-CAcreateserial", "-days", "30", "-extfile", f"{name}.ext", "-out", f"{name}.crt",
        )  # fmt: skip

    def _write_kubeconfig(self, user: str, target: Path, server: str) -> Path:
        def data(name: str) -> str:
            return base64.b64encode((self.folder / name).read_bytes()).decode()

        config = {
            "apiVersion": "v1", "kind": "Config", "current-context": "envtest",
            "clusters": [
                {"name": "envtest", "cluster": {"server": server, "certificate-authority-data": data("ca.crt")}}
            ],
            "users": [
                {"name": user, "user": {
                    "client-certificate-data": data(f"{user}.crt"), "client-key-data": data(f"{user}.key")}}
            ],
            "contexts": [{"name": "envtest", "context": {"cluster": "envtest", "user": user}}],
        }  # fmt: skip
        target.write_text(json.dumps(config))
        target.chmod(0o600)
        return target

    def _openssl(self, *arguments: str) -> None:
        subprocess.run(["openssl", *arguments], cwd=self.folder, check=True, capture_output=True)
