#!/usr/bin/env bash
# Makes the captures in the repository: real servers (nginx, redis) and real clients (curl, openssl) in two
# network namespaces of its own, joined by a veth pair, captured by tcpdump. Needs root; leaves nothing behind.
#   tests/replay/make-captures.sh [FOLDER]     writes demo.pcap, veth.pcap, any.pcap, cooked.pcap, snap.pcap
set -eu
out=$(realpath "${1:-.}")
work=$(mktemp -d)
client=flow-client-$$ server=flow-server-$$
pids=()
cleanup() {
  for pid in "${pids[@]}"; do kill "$pid" 2>/dev/null || true; done
  wait 2>/dev/null || true
  ip netns del "$client" 2>/dev/null || true
  ip netns del "$server" 2>/dev/null || true
  rm -rf "$work"
}
trap cleanup EXIT
ip netns add "$client"; ip netns add "$server"
ip link add flowc$$ netns "$client" type veth peer name flows$$ netns "$server"
ip -n "$client" addr add 192.0.2.10/24 dev flowc$$; ip -n "$client" addr add 2001:db8::10/64 dev flowc$$ nodad
ip -n "$server" addr add 192.0.2.80/24 dev flows$$; ip -n "$server" addr add 2001:db8::80/64 dev flows$$ nodad
for ns in "$client" "$server"; do ip -n "$ns" link set lo up; done
ip -n "$client" link set flowc$$ up; ip -n "$server" link set flows$$ up

openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=shop.example -keyout "$work/key" -out "$work/cert" 2>/dev/null
head -c 90000 /dev/zero | tr '\0' 'x' > "$work/big"
printf 'GET /fake/in/upload HTTP/1.1\r\nHost: fake.example\r\n\r\n%.0s' $(seq 200) > "$work/fakes"
mkdir -p "$work/www"; cp "$work/big" "$work/www/big"; cp "$work/fakes" "$work/www/fakes"
cat > "$work/nginx.conf" <<NGINX
user root; worker_processes 1; pid $work/pid; error_log $work/error.log; daemon off;
events {}
http {
  access_log off; client_body_temp_path $work/body; default_type application/json; client_max_body_size 10m;
  server {
    listen 80; listen [::]:80; listen 443 ssl; ssl_certificate $work/cert; ssl_certificate_key $work/key;
    root $work/www;
    location = /v1/orders { if (\$request_method = POST) { return 201 '{"id":7}'; } return 200 '[{"id":7}]'; }
    location ~ ^/v1/orders/[0-9]+$ { if (\$request_method = DELETE) { return 204; } return 200 '{"id":7}'; }
    location = /v1/invoices { add_header Deprecation "@1735689600"; return 200 '[]'; }
    location = /internal/debug { return 200 '{"heap":1}'; }
    location = /healthz { return 200 '{"ok":true}'; }
    location = /upload { proxy_request_buffering on; proxy_pass http://127.0.0.1:8080/; }
    location / { try_files \$uri =404; }
  }
  server { listen 127.0.0.1:8080; return 200 '{"stored":true}'; }
}
NGINX
ip netns exec "$server" nginx -c "$work/nginx.conf" -e "$work/error.log" & pids+=($!)
ip netns exec "$server" redis-server --port 6379 --bind 192.0.2.80 --save '' --daemonize no >/dev/null & pids+=($!)
sleep 1
url=http://shop.example
curl() { ip netns exec "$client" curl -sS -o /dev/null --max-time 10 --resolve shop.example:80:192.0.2.80 --resolve shop.example:443:192.0.2.80 "$@"; }
record() { # record NAMESPACE FILE ARGUMENTS..: starts tcpdump and waits until it captures
  local ns=$1 file=$2; shift 2
  ip netns exec "$ns" tcpdump -U -n -w "$file" "$@" 2>"$work/log" & dump=$!
  pids+=("$dump")
  for _ in $(seq 50); do grep -q listening "$work/log" && break; sleep 0.1; done
}
stop() { sleep 0.5; kill -INT "$dump"; wait "$dump" 2>/dev/null || true; }

demo() {
  for round in 1 2 3; do
    curl "$url/v1/orders" "$url/v1/orders/7?fields=id" -o /dev/null "$url/v1/orders/8" -o /dev/null
    curl -H 'Authorization: Bearer eyJhbGciOiJub25lIn0.e30.x' "$url/v1/orders/9" "$url/v1/invoices" -o /dev/null
    curl -d '{"item":'$round'}' -H 'Content-Type: application/json' "$url/v1/orders"
    curl -X DELETE "$url/v1/orders/$round"
    curl "$url/internal/debug" "$url/healthz" -o /dev/null
    for probe in /.env /wp-login.php /admin /backup.zip; do curl "$url$probe"; done
  done
  curl -k https://shop.example/v1/orders
  ip netns exec "$client" bash -c 'exec 3<>/dev/tcp/192.0.2.80/6379; printf "PING\r\n" >&3; read -r -t 2 line <&3' || true
}
mixed() {
  curl -T "$work/big" "$url/upload"
  curl -T "$work/fakes" -H 'Transfer-Encoding: chunked' "$url/upload"
  curl "$url/big" "$url/fakes" -o /dev/null
  curl -I "$url/v1/orders"
  curl -T "$work/fakes" -H 'Expect: 100-continue' "$url/upload"
  curl -g "http://[2001:db8::80]/v1/orders/1"
  printf 'GET /v1/orders HTTP/1.1\r\nHost: shop.example\r\n\r\nGET /v1/orders/3 HTTP/1.1\r\nHost: shop.example\r\n\r\nGET /none HTTP/1.1\r\nHost: shop.example\r\nConnection: close\r\n\r\n' > "$work/pipelined"
  ip netns exec "$client" bash -c 'exec 3<>/dev/tcp/192.0.2.80/80; cat "$0" >&3; cat <&3 >/dev/null' "$work/pipelined"
}
record "$client" "$work/demo.pcap" -i flowc$$ tcp; demo; stop; cp "$work/demo.pcap" "$out/demo.pcap"
record "$client" "$work/veth.pcap" -i flowc$$ tcp; mixed; stop; cp "$work/veth.pcap" "$out/veth.pcap"
record "$server" "$work/any.pcap" -i any tcp; mixed; stop; cp "$work/any.pcap" "$out/any.pcap"
record "$client" "$work/cooked.pcap" -i any -y LINUX_SLL tcp; mixed; stop; cp "$work/cooked.pcap" "$out/cooked.pcap"
record "$client" "$work/snap.pcap" -s 160 -i flowc$$ tcp; mixed; stop; cp "$work/snap.pcap" "$out/snap.pcap"
