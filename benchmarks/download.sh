#!/usr/bin/env bash
# download.sh: how long our download of a wheel takes, with its checks, against curl's of the same file from the same server,
# without and with a sha256sum after it; and how much more memory a file takes that is ten times as large.
set -euo pipefail
folder=$(mktemp -d)
trap 'nginx -p "$folder" -c nginx.conf -s stop 2>/dev/null; rm -rf "$folder"' EXIT
export PYTHONPATH=$PWD/.ansible/collections PATH=$PWD/.venv/bin:$PATH

mkdir "$folder/www" "$folder/came"
chmod 755 "$folder"
python benchmarks/download.py make "$folder/www"
openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 1 -subj /CN=localhost \
  -addext subjectAltName=DNS:localhost -keyout "$folder/key.pem" -out "$folder/cert.pem" 2>/dev/null
port=$(python -c 'import socket; s = socket.create_server(("127.0.0.1", 0)); print(s.getsockname()[1])')
cat >"$folder/nginx.conf" <<CONF
pid nginx.pid;
worker_processes 1;
error_log stderr warn;
events {}
http {
  access_log off;
  sendfile on;
  client_body_temp_path body;
  proxy_temp_path proxy;
  fastcgi_temp_path fastcgi;
  uwsgi_temp_path uwsgi;
  scgi_temp_path scgi;
  server {
    listen 127.0.0.1:$port ssl;
    ssl_certificate cert.pem;
    ssl_certificate_key key.pem;
    root www;
  }
}
CONF
nginx -p "$folder" -c nginx.conf

declare -A digest
for name in small large; do
  digest[$name]=$(sha256sum "$folder/www/$name-1-py3-none-any.whl" | cut -d' ' -f1) # reads it into memory, too
done
milliseconds() { # COMMAND...
  local start=$EPOCHREALTIME
  "$@" >&2
  echo $(((${EPOCHREALTIME/./} - ${start/./}) / 1000))
}
ours() { # NAME
  rm -rf "$folder/came/"* && sync
  python benchmarks/download.py get "https://localhost:$port/$1-1-py3-none-any.whl" "${digest[$1]}" \
    "$folder/cert.pem" "$folder/came/cache"
}
curl_it() {
  curl -sS --fail --cacert "$folder/cert.pem" -o "$folder/came/file" "https://localhost:$port/large-1-py3-none-any.whl"
}
curl_and_check() { curl_it && echo "${digest[large]}  $folder/came/file" | sha256sum --check --quiet; }

for _ in 1 2 3 4 5; do
  read -r took _kib < <(ours large)
  echo "download ours $took"
  echo "with-sha256 ours $took"
  rm -rf "$folder/came/"* && sync
  echo "download curl $(milliseconds curl_it)"
  rm -rf "$folder/came/"* && sync
  echo "with-sha256 curl $(milliseconds curl_and_check)"
done | python benchmarks/ratio.py ms
for _ in 1 2 3 4 5; do
  for name in large small; do
    read -r _took kib < <(ours $name)
    echo "memory $([ $name = large ] && echo 250-MB || echo 25-MB) $kib"
  done
done | python benchmarks/ratio.py KiB
