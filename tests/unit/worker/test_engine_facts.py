"""What engines say about themselves: metrics, and the kernel's table of connections."""

from pathlib import Path

import pytest

from capstan_worker.engine.kinds import GAUGES, EngineKind, count_in_flight, sum_metric
from capstan_worker.engine.sockets import connections_to, count_connections

TEXTS = {
    EngineKind.VLLM: (
        'vllm:num_requests_running{engine="0",model_name="a b} c"} 2.0\nvllm:num_requests_waiting{engine="0"} 3.0\n'
        'vllm:num_requests_waiting_by_reason{reason="capacity"} 9.0\n'
    ),
    EngineKind.TGI: "tgi_batch_current_size 4\ntgi_queue_size 1\n",
    EngineKind.SGLANG: 'sglang:num_running_reqs{model_name="m"} 5.0\nsglang:num_queue_reqs{model_name="m"} 0.0\n',
}


@pytest.mark.parametrize("kind", list(TEXTS))
def test_running_and_waiting_requests_are_in_flight(kind: EngineKind):
    """Each engine's own metrics say how many requests it has, and similar names do not count."""
    assert count_in_flight(TEXTS[kind], GAUGES[kind]) == 5


def test_series_are_added_up():
    """Several series of one metric, as with data parallelism, are one number."""
    assert sum_metric('# TYPE a gauge\na{engine="0"} 1\na{engine="1"} 2.5\nab 7\n', "a") == 3.5


def test_metrics_that_say_nothing_are_not_zero():
    """An engine that does not tell is not taken for idle."""
    assert count_in_flight("other 1\n", GAUGES[EngineKind.VLLM]) is None


TABLE = """\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:1F40 00000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 1 1 0
   1: 0100007F:1F40 0100007F:D2F0 01 00000000:00000000 00:00000000 00000000     0        0 2 1 0
   2: 0100007F:D2F0 0100007F:1F40 01 00000000:00000000 00:00000000 00000000     0        0 3 1 0
   3: 0100007F:1F40 0100007F:D2F2 06 00000000:00000000 00:00000000 00000000     0        0 4 1 0
   4: 0100007F:1F41 0100007F:D2F4 01 00000000:00000000 00:00000000 00000000     0        0 5 1 0
"""


def test_only_established_connections_of_the_server_count():
    """The listening socket, the client's side, closed connections and other ports are left out."""
    assert count_connections(TABLE, 8000) == 1


def test_a_machine_without_ipv6_has_one_table(tmp_path: Path):
    """A table that is not there has no connections."""
    table = tmp_path / "tcp"
    table.write_text(TABLE)
    assert connections_to(8000, (table, tmp_path / "tcp6")) == 1
