#!/usr/bin/env bash
# Makes nat.pcap: curl in one network namespace, nginx in another, between them a node that does DNAT and masquerade
# (nft) and runs `tcpdump -i any`, so that the capture holds every packet under both pairs of addresses. Needs root;
# leaves nothing behind.
#   tests/replay/make-nat-capture.sh [FOLDER]
set -eu
out=$(realpath "${1:-.}")
work=$(mktemp -d)
client=nat-client-$$ node=nat-node-$$ server=nat-server-$$
pids=()
cleanup() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  for ns in "$client" "$node" "$server"; do ip netns del "$ns" 2>/dev/null || true; done
  rm -rf "$work"
}
trap cleanup EXIT
for ns in "$client" "$node" "$server"; do ip netns add "$ns"; ip -n "$ns" link set lo up; done
ip link add natc$$ netns "$client" type veth peer name natn$$ netns "$node"
ip link add nats$$ netns "$server" type veth peer name natm$$ netns "$node"
ip -n "$client" addr add 192.0.2.10/24 dev natc$$; ip -n "$node" addr add 192.0.2.1/24 dev natn$$
ip -n "$server" addr add 198.51.100.80/24 dev nats$$; ip -n "$node" addr add 198.51.100.1/24 dev natm$$
ip -n "$client" link set natc$$ up; ip -n "$node" link set natn$$ up
ip -n "$server" link set nats$$ up; ip -n "$node" link set natm$$ up
ip -n "$client" route add default via 192.0.2.1
ip netns exec "$node" sysctl -qw net.ipv4.ip_forward=1
ip netns exec "$node" nft -f - <<NFT
table ip nat {
  chain pre { type nat hook prerouting priority dstnat; ip daddr 203.0.113.7 tcp dport { 80, 443 } dnat to 198.51.100.80:tcp dport map { 80 : 8080, 443 : 8443 }; }
  chain post { type nat hook postrouting priority srcnat; oifname "natm$$" masquerade; }
}
NFT
openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=shop.example -keyout "$work/key" -out "$work/cert" 2>/dev/null
head -c 90000 /dev/zero | tr '\0' 'x' > "$work/big"
cat > "$work/nginx.conf" <<NGINX
user root; worker_processes 1; pid $work/pid; error_log $work/error.log; daemon off;
events {}
http {
  access_log off; client_body_temp_path $work/body; default_type application/json; client_max_body_size 10m;
  server {
    listen 8080; listen 8443 ssl; ssl_certificate $work/cert; ssl_certificate_key $work/key; root $work;
    location = /big { try_files /big =404; }
    location / { return 200 '{"id":7}'; }
  }
}
NGINX
ip netns exec "$server" nginx -c "$work/nginx.conf" -e "$work/error.log" & pids+=($!)
sleep 1
ip netns exec "$node" tcpdump -U -n -i any -w "$work/nat.pcap" tcp 2>"$work/log" & dump=$!
pids+=("$dump")
for _ in $(seq 50); do grep -q listening "$work/log" && break; sleep 0.1; done
curl() {
  ip netns exec "$client" curl -sS -o /dev/null --max-time 10 --resolve shop.example:80:203.0.113.7 \
    --resolve shop.example:443:203.0.113.7 "$@"
}
url=http://shop.example
for number in 1 2 3 4 5; do curl "$url/short/$number"; done
curl "$url/kept/1" "$url/kept/2" -o /dev/null "$url/kept/3" -o /dev/null
for number in 1 2 3; do curl "$url/beside/$number" & done
wait $(jobs -p | tail -n 3)
curl "$url/big"
curl -T "$work/big" "$url/upload"
curl -k https://shop.example/tls
# The kernel hands packets over by the second.
sleep 2; kill -INT "$dump"; wait "$dump" 2>/dev/null || true
cp "$work/nat.pcap" "$out/nat.pcap"
