#!/usr/bin/env bash
# One node of the Ray cluster in a Slurm job, the first its head; `srun` runs it on every node, and it ends with Ray or
# at a signal.   ray_node.sh ip   prints the address that the other nodes reach this one by.
#
# MPM_INTERFACE, for example ib0: the network between the nodes. Without it, that of the name Slurm knows the node by.
set -euo pipefail

address_of() { # INTERFACE
    ip -o -4 address show dev "$1" | awk '{sub("/.*", "", $4); print $4; exit}'
}

own_ip() {
    if [[ -n ${MPM_INTERFACE:-} ]]; then
        address_of "$MPM_INTERFACE"
        return
    fi
    local found # many a machine calls itself 127.0.1.1
    found=$(getent ahostsv4 "$SLURMD_NODENAME" | awk '$1 !~ /^127\./ {print $1; exit}' || true)
    echo "${found:-$(hostname -I | awk '{print $1}')}"
}

if [[ ${1:-} == ip ]]; then
    own_ip
    exit
fi

node_ip=$(own_ip)
# Else workers may offer each other an address that is another machine's, or none's.
interface=$(ip -o -4 address | awk -v at="$node_ip/" 'index($4, at) == 1 {print $2; exit}')
export GLOO_SOCKET_IFNAME=$interface NCCL_SOCKET_IFNAME=$interface
export RAY_GRACEFUL_SHUTDOWN_DRAIN_TIMEOUT_S=0 # at a signal all nodes end: none can take over

ray='' scratch=$(mktemp -d /tmp/ray-XXXXXX) # short: a socket's path may be no longer than 107 bytes
# shellcheck disable=SC2329 # the traps call it
leave() {
    trap '' TERM INT
    if [[ -n $ray ]]; then
        kill "$ray" 2>/dev/null || true
        wait "$ray" 2>/dev/null || true
    fi
    rm -rf "$scratch"
}
trap leave EXIT
trap 'exit 143' TERM INT

options=(--block --disable-usage-stats --node-ip-address="$node_ip" --num-cpus="$SLURM_CPUS_ON_NODE"
    --temp-dir="$scratch" --log-style=record --log-color=false)
if [[ $SLURM_NODEID == 0 ]]; then
    # The other nodes ask the dashboard too; it wants the token. A lost node is noticed within seconds.
    options+=(--head --port="${RAY_ADDRESS##*:}" --dashboard-host="$node_ip"
        --system-config='{"health_check_initial_delay_ms": 0, "health_check_period_ms": 1000,
            "health_check_timeout_ms": 1000, "health_check_failure_threshold": 3}')
else
    until ray health-check --address "$RAY_ADDRESS" >/dev/null 2>&1; do sleep 2; done # the batch script counts the time
    options+=(--address="$RAY_ADDRESS")
fi
ray start "${options[@]}" &
ray=$!
wait "$ray"
