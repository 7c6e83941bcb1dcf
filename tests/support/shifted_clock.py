"""The wall clock of one process, put forward or back while it runs: as an operator or NTP sets a machine's clock.

A library is loaded in front of the C library (LD_PRELOAD) that adds to the real time what stands in a file. Clocks that
nobody sets (CLOCK_MONOTONIC) stay as they are, as they do when a machine's clock is set.
"""

import struct
import subprocess
from pathlib import Path
from typing import Final

from support.needs import need_binary

_SOURCE: Final = r"""
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static volatile long long *ahead;

__attribute__((constructor)) static void begin(void) {
  const char *name = getenv("CAPSTAN_TEST_CLOCK");
  int file = name ? open(name, O_RDONLY) : -1;
  if (file < 0) return;
  void *found = mmap(0, sizeof *ahead, PROT_READ, MAP_SHARED, file, 0);
  close(file);
  if (found != MAP_FAILED) ahead = found;
}

static long long seconds(void) { return ahead ? *ahead : 0; }

int clock_gettime(clockid_t clock, struct timespec *now) {
  int said = syscall(SYS_clock_gettime, clock, now);
  if (said == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE)) now->tv_sec += seconds();
  return said;
}

int gettimeofday(struct timeval *now, void *zone) {
  struct timespec exact;
  (void)zone;
  if (clock_gettime(CLOCK_REALTIME, &exact)) return -1;
  now->tv_sec = exact.tv_sec;
  now->tv_usec = exact.tv_nsec / 1000;
  return 0;
}

time_t time(time_t *place) {
  struct timespec exact;
  clock_gettime(CLOCK_REALTIME, &exact);
  if (place) *place = exact.tv_sec;
  return exact.tv_sec;
}
"""


class ShiftedClock:
    """The clock of every process that is started with `environ`."""

    def __init__(self, folder: Path) -> None:
        compiler = need_binary("cc", "gcc")
        source, library, self._file = folder / "clock.c", folder / "clock.so", folder / "clock"
        source.write_text(_SOURCE)
        subprocess.run([compiler, "-shared", "-fPIC", "-O1", "-o", str(library), str(source)], check=True)
        self._file.write_bytes(struct.pack("q", 0))
        self.environ = {"LD_PRELOAD": str(library), "CAPSTAN_TEST_CLOCK": str(self._file)}

    def set(self, seconds: int) -> None:
        """Let it be so many seconds ahead of the real time; a negative number: behind."""
        with self._file.open("r+b") as file:
            file.write(struct.pack("q", seconds))
