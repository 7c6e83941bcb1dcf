#!/bin/sh
# Installs the agents that tests/agents runs, in the versions of tests/agents/package-lock.json (needs Node 20 and npm).
#
# Not `npm ci`: it refuses a lock without the packages of other systems, and a registry need not have all of them.
set -eu

cd "$(dirname "$0")/../tests/agents"
npm install --no-save --no-audit --no-fund --loglevel=error
