#!/bin/sh
# The benchmarks. Without arguments: in one process and through HTTP, beside the limit, and what telemetry
# costs; about three minutes.
#
#   benchmarks/run.sh [--seconds S] [--reps N]       these three, with these arguments
#   benchmarks/run.sh inproc|ingress|limit|telemetry|million|growth|store_commit|sql|search|pages|agent_overhead [ARGS]
#   benchmarks/run.sh --harness DIR [ARGS]           the peer harness in DIR, with agentdur among its peers
#
# RESTATE_SERVER=/path/to/restate-server adds Restate to what goes through HTTP.
set -eu
cd "$(dirname "$0")/.."
python=${PYTHON:-.venv/bin/python}
[ -x "$python" ] || python=python3

case "${1:-}" in
--harness)
    [ $# -ge 2 ] || { echo "benchmarks/run.sh: --harness needs the harness's directory" >&2; exit 2; }
    harness=$2
    shift 2
    exec "$python" "$harness/run.py" --peer-file benchmarks/peer_agentdur.py "$@"
    ;;
inproc | ingress | limit | telemetry | million | growth | store_commit | sql | search | pages | agent_overhead)
    program=$1
    shift
    exec "$python" -m "benchmarks.$program" "$@"
    ;;
"" | -*)
    "$python" -m benchmarks.inproc "$@"
    echo
    "$python" -m benchmarks.ingress "$@"
    echo
    exec "$python" -m benchmarks.telemetry "$@"
    ;;
*)
    sed -n '2,$s/^# \{0,1\}//p' "$0" >&2
    exit 2
    ;;
esac
