# shellcheck shell=bash disable=SC2154,SC2034,SC2016
# Servers that do what they should not, for story-origin-faults: nginx on 8001 and with TLS on 8443 and up, on 8002 a server that lies, on
# 8003 a proxy before nginx that cuts connections.

# public_address sets public to an address of the server that is nobody's and not private: of a service that was given up (RFC 7526).
public_address() {
  public=192.88.99.$((slot + 2))
  ip -n "$far" addr add "$public/32" dev eth0
  ip route add "$public/32" dev "swo$$"
}

# site_tree DIR: 61 files, one of 8 MiB; beside it directories of other cases.
site_tree() {
  local t=$1 d n=
  mkdir -p "$t/large"
  for d in {10..49}; do
    mkdir -p "$t/pool/$d"
    echo "$d" >"$t/pool/$d/file"
  done
  for d in {50..69}; do mkdir "$t/pool/$d"; done
  noise 1 $((8 << 20)) >"$t/large/image"
  mkdir -p "$work/www/odd" "$work/www/loops/a" "$work/outside-site"
  ln -s "$t" "$work/www/site"
  echo fine >"$work/www/odd/fine"
  echo bad >"$work/www/odd/new"$'\n'"line"
  echo bad >"$work/www/odd/bell"$'\a'
  echo inside >"$work/www/loops/a/file"
  echo top >"$work/www/loops/file"
  ln -s . "$work/www/loops/loop"
  ln -s .. "$work/www/loops/a/up"
  echo secret >"$work/outside-site/secret"
  ln -s ../../outside-site "$work/www/loops/out"
  for d in {1..62}; do n+=/$((d % 10)); done
  mkdir -p "$work/www/deep$n/x/y/z"
  echo here >"$work/www/deep/here"
  echo deep >"$work/www/deep$n/deepest"
  echo deeper >"$work/www/deep$n/x/y/too-deep"
  find "$t" "$work/www" -type f -exec touch -d '2024-05-06 07:08:09' {} +
  chmod -R a+rX "$t" "$work/www" "$work/outside-site"
}

# make_certificates: of an own authority, for the server, one expired, one for another name.
make_certificates() {
  local t=$work/tls k
  mkdir -p "$t/new"
  : >"$t/index"
  printf '[ca]\ndefault_ca=d\n[d]\ndatabase=%s/index\nnew_certs_dir=%s/new\nrand_serial=yes\ndefault_md=sha256\npolicy=p\nunique_subject=no\ncopy_extensions=copy\n[p]\ncommonName=supplied\n' "$t" "$t" >"$t/ca.conf"
  {
    openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj "/CN=story" -keyout "$t/ca.key" -out "$t/ca.crt"
    for k in good expired name; do
      local san=IP:$origin_host dates=(-startdate 20200101000000Z -enddate 20400101000000Z)
      [[ $k != name ]] || san=DNS:mirror.example
      [[ $k != expired ]] || dates=(-startdate 20200101000000Z -enddate 20200102000000Z)
      openssl req -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj "/CN=$k" -addext "subjectAltName=$san" -keyout "$t/$k.key" -out "$t/$k.csr"
      openssl ca -batch -notext -config "$t/ca.conf" -cert "$t/ca.crt" -keyfile "$t/ca.key" "${dates[@]}" -in "$t/$k.csr" -out "$t/$k.crt"
    done
  } >"$work/logs/openssl.out" 2>&1 || die "the certificates could not be made"
}

serve_faults() {
  local port=8443 k tls=
  for k in good expired name; do
    tls+="server { listen $port ssl; root $work/www; ssl_certificate $work/tls/$k.crt; ssl_certificate_key $work/tls/$k.key; autoindex on; }"
    port=$((port + 1))
  done
  origin_log=$work/logs/site.access
  : >>"$origin_log"
  : >"$work/busy.conf"
  cat >"$work/site.conf" <<END
daemon off; worker_processes 1; user root; pid $work/nginx.pid; error_log $work/logs/nginx.err;
events {}
http {
  default_type application/octet-stream; log_format story '\$msec "\$request" \$status \$body_bytes_sent'; access_log $origin_log story;
  index none;
  server {
    listen 8001; root $work/www; autoindex on;
    location /site/ { include $work/busy.conf; autoindex on; }
    location = /redirect/ { autoindex on; alias $work/site/pool/10/; }
    location = /redirect/file { return 302 http://$origin_host:8001/site/pool/10/file; }
  }
  $tls
}
END
  cat >"$work/liar.pl" <<'END'
use strict; use IO::Socket::INET;
my ($kind, $port) = @ARGV; $SIG{CHLD} = 'IGNORE'; $SIG{PIPE} = 'IGNORE';
my $s = IO::Socket::INET->new(LocalPort => $port, Listen => 20, ReuseAddr => 1) or die $!;
sub index_of { my $l = shift; my $b = qq([{"name":"f","type":"file","mtime":"Mon, 06 May 2024 07:08:09 GMT","size":$l}]);
  return "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: " . length($b) . "\r\n\r\n$b" }
while (1) {
  my $c = $s->accept or next;
  if (fork) { close $c; next }
  $c->autoflush(1);
  if ($kind eq 'cut') { # a connection ends after 3 MiB
    my $n = IO::Socket::INET->new(PeerAddr => '127.0.0.1', PeerPort => 8001) or exit;
    if (!fork) { my $b; while (sysread $c, $b, 65536) { syswrite $n, $b } exit }
    my ($b, $left) = ('', 3 << 20);
    while ($left > 0 and my $r = sysread $n, $b, 65536) { syswrite $c, $b; $left -= $r }
    shutdown $c, 2; exit;
  }
  my $first = <$c> // exit; while (<$c>) { last if /^\r?\n/ }
  my ($path) = $first =~ m{^\w+ /(\S*)}; my $head = "HTTP/1.1 200 OK\r\nConnection: close\r\nLast-Modified: Mon, 06 May 2024 07:08:09 GMT\r\nContent-Length: ";
  if ($path eq 'listed/') { print $c index_of(99) }
  elsif ($path =~ m{^(short|slow)/$}) { print $c index_of(10) }
  elsif ($path eq 'listed/f') { print $c $head . "10\r\n\r\n0123456789" }
  elsif ($path eq 'short/f') { print $c $head . "10\r\n\r\n01234" }
  elsif ($path eq 'slow/f') { print $c $head . "10\r\n\r\n"; for (1 .. 9) { print $c $_; sleep 7 } } # less than one a second: ten would be over too soon
  else { print $c "HTTP/1.1 404 Not Found\r\nConnection: close\r\nContent-Length: 0\r\n\r\n" }
  exit;
}
END
  serve site bash -c 'perl "$1/liar.pl" lie 8002 & perl "$1/liar.pl" cut 8003 & exec nginx -p "$1" -c "$1/site.conf" -e "$1/logs/nginx.err"' faults "$work"
  for port in 8001 8002 8003; do until_true 10 "the servers answer" answers "$port"; done
}

# busy ANSWER HEADER: nginx answers with that from now on; calm: and no more.
busy() {
  printf 'add_header %s always; %s;\n' "$2" "$1" >"$work/busy.conf"
  reload 1
}
calm() {
  : >"$work/busy.conf"
  reload 0
}
reload() {
  kill -HUP "$(cat "$work/nginx.pid")"
  until_true 10 "nginx has read its settings" is_busy "$1"
}
is_busy() { (($(curl -s -o /dev/null -w '%{http_code}' "http://$origin_host:8001/site/pool/" | grep -c '^200$') != $1)); }

# paused "CODE SECONDS|date": the origin is busy for a while and then not. Sets status, before_pause: how many requests were refused, and
# pause: whether there was none for as long as it asked for.
paused() {
  local code=${1% *} after=${1#* } at='' until=0
  [[ $after != date ]] || { after=0 until=$(date +%s -d '+5 seconds'); at=$(LC_ALL=C date -u -d "@$until" '+%a, %d %b %Y %H:%M:%S GMT'); }
  busy "return $code" "Retry-After \"${at:-$after}\""
  mark_faults
  "$SWARMNODE" publish --now site --home "$work/site-home" --json >"$work/logs/again.out" 2>"$work/logs/again.err" &
  local job=$!
  until_true 10 "a request is refused" refused
  sleep 1
  before_pause=$(new_lines | grep -c '" 429 \|" 503 ')
  calm_quietly
  status=0
  wait "$job" || status=$?
  pause=$(new_lines | grep -v curl | awk -v after="$after" -v until="$until" '/" (429|503) / { last = $1; next } last && !next_one { next_one = $1 } END { print (next_one - last >= after - 1.2 && next_one >= until) ? 1 : 0 }')
}
mark_faults() { marked=$(wc -l <"$origin_log"); }
new_lines() { tail -n "+$((marked + 1))" "$origin_log"; }
refused() { new_lines | grep '" 429 \|" 503 ' >/dev/null; }
calm_quietly() { # no request that would count
  : >"$work/busy.conf"
  kill -HUP "$(cat "$work/nginx.pid")"
}

# fetched NAME URL SECONDS [FLAG...]: a collection more for the node that runs; $status is how the command ends.
fetched() {
  local n=$1 url=$2 limit=$3 args=(--from-private)
  shift 3
  [[ -z ${plain:-} ]] || args=()
  run "$n" "$limit" "$SWARMNODE" publish --from "$url" --name "$n" --home "$work/site-home" ${args[@]+"${args[@]}"} "$@"
  echo "--- $n: exit $status"; cat "$work/logs/$n.out" "$work/logs/$n.err"
}
# ends STATUS NAME PATTERN: how the command has ended, and what it said.
ends() { [[ $status == "$1" ]] && says "$2" "$3"; }
status_says() { "$SWARMNODE" status --home "$work/site-home" >"$work/logs/status.out" 2>&1 && sed -n "/^$1\$/,/^\$/p" "$work/logs/status.out" | grep -Ei -- "$2" >/dev/null; }
record() { status "$work/site-home" ".collections[] | select(.name == \"$1\") | .$2"; }
has_release() { record "$1" 'release > 0'; }
files_of() { record "$1" files; }
ranges() { (($(tail -n "+$((marked + 1))" "$origin_log" | grep -c 'image HTTP/1.1" 206') >= $1)); }

# newer: the site has a release more, at the mirror too, and it is what the server shows.
newer() {
  local now
  now=$(of "$work/site-home" "$id" release)
  [[ $status == 0 ]] && ((now > release)) || return 1
  release=$now
  right
}
right() {
  until_true 30 "the mirror complete with release $release" complete "$work/mirror" "$id" "$release"
  rm -rf "$work/got" "$work/get-got"
  got got "$id" "$work/got" "$(address_of "$work/mirror")" 60 && diff -r "$work/site" "$work/got"
}
# same_release NAME DIR: what was published under that name is that directory.
same_release() {
  rm -rf "$work/got" "$work/get-got"
  got got "$(record "$1" id)" "$work/got" "$address" 60 && diff -r "$2" "$work/got"
}
