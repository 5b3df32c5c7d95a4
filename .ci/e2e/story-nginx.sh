#!/usr/bin/env bash
# The same requests to nginx over the plain tree and to the gateway of a mirror: status, headers and bodies are compared. Each
# difference is listed with its reason; one without a reason fails, and so does a reason that nothing needs any more.
# shellcheck source=.ci/e2e/lib.sh
source "$(dirname "$0")/lib.sh"
story story-nginx
free_port; master_port=$port
free_port; mirror_port=$port
free_port; gateway=127.0.0.1:$port
free_port; nginx=127.0.0.1:$port

# --- a tree with what servers of archives meet
www=$work/www tree=$work/www/archive
mkdir -p "$tree/pool/main/a" "$tree/dists/stable" "$tree/iso" "$tree/odd" "$tree/repodata" "$tree/empty"
random() { head -c "$2" /dev/urandom >"$tree/$1"; }
random pool/main/a/a_1.0+dfsg-1_amd64.deb 300000
random pool/main/a/b_1%3a2.0~rc1_all.deb 5000
random iso/image.iso 3000000
random dists/stable/Packages.xz 20000
random dists/stable/Packages.gz 20000
for i in {1..400}; do echo "Package: p$i"; done >"$tree/dists/stable/Packages"
echo signed >"$tree/dists/stable/InRelease"
echo '<repomd/>' >"$tree/repodata/repomd.xml"
echo '<html><title>page</title></html>' >"$tree/page.html"
echo '{}' >"$tree/data.json"
echo text >"$tree/README"
echo 'text too' >"$tree/notes.txt"
random core.db 1000
random core.db.sig 100
random a.tar.zst 4000
random fw.rpm 4000
: >"$tree/odd/empty"
echo odd >"$tree/odd/two words & more; [1] #2?.txt"
echo utf8 >"$tree/odd/žluťoučký 日本.txt"
echo hidden >"$tree/.hidden"
echo quote >"$tree/odd/it's <b>\"quoted\".txt"
ln -s stable "$tree/dists/testing"
ln -s stable/InRelease "$tree/dists/current"
find "$tree" -type f -exec touch -d '2024-05-06 07:08:09' {} +

# --- nginx from Debian's package, unpacked and not installed: nothing else on this machine changes
mkdir -p "$E2E_CACHE/nginx" "$work/nginx"
(cd "$E2E_CACHE/nginx" && { compgen -G 'nginx_*.deb' && compgen -G 'nginx-common_*.deb' || apt-get -q download nginx nginx-common; }) \
  >"$work/logs/apt.out" 2>&1 || die "nginx could not be downloaded"
for deb in "$E2E_CACHE"/nginx/*.deb; do dpkg-deb -x "$deb" "$work/nginx/root"; done
cat >"$work/nginx/conf" <<EOF
daemon off; worker_processes 1; pid $work/nginx/pid; error_log $work/logs/nginx.err;
events {}
http {
  include $work/nginx/root/etc/nginx/mime.types; default_type application/octet-stream; access_log off; sendfile on;
  client_body_temp_path $work/nginx/t; proxy_temp_path $work/nginx/t; fastcgi_temp_path $work/nginx/t; uwsgi_temp_path $work/nginx/t; scgi_temp_path $work/nginx/t;
  server { listen $nginx; root $www; autoindex on; }
}
EOF
start nginx "$work/nginx/root/usr/sbin/nginx" -c "$work/nginx/conf" -e "$work/logs/nginx.err" -g "user $(id -un);"
publish master "$tree" "$work/master" "$master_port" --name archive --gateway none
wait_published master
join mirror "$work/mirror" "$mirror_port" "$address" --gateway "$gateway"
until_true 60 "the mirror is complete" complete "$work/mirror" "$id" "$release"
until_true 10 "nginx answers" curl -sf -o /dev/null "http://$nginx/archive/README"
stop TERM master

# --- the requests: NAME PATH [ARGUMENT OF CURL]... @ETAG@ is the file's ETag at the server that is asked, @DATE@ its Last-Modified.
requests=()
req() { requests+=("$(IFS=$'\x1f'; echo "$*")"); }
deb=/archive/pool/main/a/a_1.0+dfsg-1_amd64.deb iso=/archive/iso/image.iso
req get-deb $deb
req get-iso $iso
req get-packages /archive/dists/stable/Packages
req get-xz /archive/dists/stable/Packages.xz
req get-gz /archive/dists/stable/Packages.gz
req get-inrelease /archive/dists/stable/InRelease
req get-repomd /archive/repodata/repomd.xml
req get-html /archive/page.html
req get-json /archive/data.json
req get-noext /archive/README
req get-txt /archive/notes.txt
req get-db /archive/core.db
req get-sig /archive/core.db.sig
req get-zst /archive/a.tar.zst
req get-rpm /archive/fw.rpm
req get-empty /archive/odd/empty
req get-hidden /archive/.hidden
req get-odd "/archive/odd/two%20words%20%26%20more%3B%20%5B1%5D%20%232%3F.txt"
req get-utf8 "/archive/odd/%C5%BElu%C5%A5ou%C4%8Dk%C3%BD%20%E6%97%A5%E6%9C%AC.txt"
req get-quote "/archive/odd/it's%20%3Cb%3E%22quoted%22.txt"
req escaped-plus /archive/pool/main/a/a_1.0%2Bdfsg-1_amd64.deb
req escaped-percent /archive/pool/main/a/b_1%253a2.0~rc1_all.deb
req escaped-tilde /archive/pool/main/a/b_1%253a2.0%7Erc1_all.deb
req symlink-dir /archive/dists/testing/InRelease
req symlink-file /archive/dists/current
req query "$deb?x=1&y"
req accept-gzip /archive/dists/stable/Packages -H Accept-Encoding:gzip,deflate,br
req aria2-accept $deb -H 'Accept:*/*,application/metalink4+xml,application/metalink+xml'
req http10 $deb --http1.0
req head-deb $deb -I
req head-packages /archive/dists/stable/Packages -I
req head-missing /archive/none -I
req range-first $deb -r 0-99
req range-middle $iso -r 1048570-1048590
req range-open $deb -r 299000-
req range-suffix $deb -r -500
req range-suffix-long $deb -r -999999
req range-suffix-none $deb -r -0
req range-all $deb -r 0-
req range-past-end $deb -r 299990-400000
req range-beyond $deb -r 300000-
req range-reversed $deb -H Range:bytes=5-2
req range-garbage $deb -H Range:bytes=abc
req range-unit $deb -H Range:lines=1-2
req range-two $deb -r 0-9,100-119
req range-three-suffix $deb -r 0-9,100-119,-5
req range-some-beyond $deb -r 0-9,300000-300010
req range-empty-file /archive/odd/empty -r 0-9
req range-head $deb -I -r 0-99
req inm-same $deb -H If-None-Match:@ETAG@
req inm-list $deb -H 'If-None-Match:"x",@ETAG@'
req inm-star $deb -H 'If-None-Match:*'
req inm-other $deb -H 'If-None-Match:"x"'
req ims-same $deb -H If-Modified-Since:@DATE@
req ims-later $deb -H 'If-Modified-Since:Wed, 01 Jan 2025 00:00:00 GMT'
req ims-earlier $deb -H 'If-Modified-Since:Sun, 01 Jan 2023 00:00:00 GMT'
req ims-garbage $deb -H If-Modified-Since:yesterday
req inm-wins $deb -H 'If-None-Match:"x"' -H If-Modified-Since:@DATE@
req im-same $deb -H If-Match:@ETAG@
req im-other $deb -H 'If-Match:"x"'
req ius-earlier $deb -H 'If-Unmodified-Since:Sun, 01 Jan 2023 00:00:00 GMT'
req ifrange-etag $deb -r 0-99 -H If-Range:@ETAG@
req ifrange-other $deb -r 0-99 -H 'If-Range:"x"'
req ifrange-date $deb -r 0-99 -H If-Range:@DATE@
req ifrange-later $deb -r 0-99 -H 'If-Range:Wed, 01 Jan 2025 00:00:00 GMT'
req resume-done $deb -C 300000
req missing /archive/pool/none.deb
req missing-dir /archive/none/
req missing-collection /other/README
req file-slash /archive/README/
req below-file /archive/README/x
req dir-noslash /archive/dists
req dir /archive/dists/
req dir-empty /archive/empty/
req double-slash /archive//README
req dot-segment /archive/./README --path-as-is
req dotdot /archive/dists/../README --path-as-is
req dotdot-out /archive/../../etc/passwd --path-as-is
req encoded-slash /archive%2FREADME
req nul /archive/README%00
req bad-escape /archive/%zz
req post $deb -X POST -d x
req put $deb -X PUT -d x
req delete $deb -X DELETE
req options $deb -X OPTIONS

# --- the reasons: why REQUEST FIELD VALUE TEXT, the first three patterns. A field is status, body or a header, the value the gateway's; the
# first that matches counts.
why_request=() why_field=() why_value=() reasons=()
why() { why_request+=("$1"); why_field+=("$2"); why_value+=("$3"); reasons+=("$4"); }
# shellcheck source=.ci/e2e/story-nginx.why
source "$here/story-nginx.why"

# answer SERVER NAME PATH [ARGUMENT]...: writes the fields of the answer, one a line, sorted.
answer() {
  local server=$1 n=$2 path=$3 out=$work/answers/$1 args code boundary
  shift 3
  args=("${@//@ETAG@/${etag[$server]}}")
  args=("${args[@]//@DATE@/${date[$server]}}")
  mkdir -p "$out"
  code=$(curl -s --http1.1 -m 20 -o "$out/$n.body" -D "$out/$n.head" -w '%{http_code}, curl %{exitcode}' "${args[@]}" "http://${!server}$path" || true)
  [[ $* != *-I* ]] || : >"$out/$n.body" # curl writes the headers there
  boundary=$(sed -n 's/^Content-Type: multipart\/byteranges; *boundary="\?\([^"\r]*\)"\?\r$/\1/Ip' "$out/$n.head")
  {
    echo "status $code"
    # Names of headers are the same in any case; the date is when it was asked.
    sed -e 1d -e 's/\r$//' "$out/$n.head" | sed -n 's/^\([^:]*\): */\L\1\E /p' | sed -e '/^date /d' -e "s/${boundary:-no boundary}/BOUNDARY/"
    # The type is compared with the headers.
    [[ ! -s $out/$n.body ]] || echo "body $(LC_ALL=C sed -e "s/${boundary:-no boundary}/BOUNDARY/" -e '/^Content-Type: /Id' "$out/$n.body" | sha256sum | cut -c1-16)"
  } | LC_ALL=C sort >"$out/$n"
}

declare -A etag date used_why
shopt -s extglob
for server in gateway nginx; do
  etag[$server]=$(curl -sI "http://${!server}$deb" | sed -n 's/^etag: *\(.*\)\r$/\1/Ip')
  date[$server]=$(curl -sI "http://${!server}$deb" | sed -n 's/^last-modified: *\(.*\)\r$/\1/Ip')
done

# value FILE FIELD: what the answer has there.
value() { sed -n "s/^$2 //p" "$1" | paste -sd ';'; }
equal=0 explained=0 unexplained=0
for r in "${requests[@]}"; do
  IFS=$'\x1f' read -r -a words <<<"$r"
  n=${words[0]}
  for server in gateway nginx; do answer "$server" "${words[@]}"; done
  while read -r field; do
    ours=$(value "$work/answers/gateway/$n" "$field") theirs=$(value "$work/answers/nginx/$n" "$field")
    if [[ $ours == "$theirs" ]]; then equal=$((equal + 1)); continue; fi
    reason=
    for i in "${!reasons[@]}"; do
      # shellcheck disable=SC2053 # they are patterns
      if [[ $n == ${why_request[i]} && $field == ${why_field[i]} && $ours == ${why_value[i]} ]]; then reason=${reasons[i]}; used_why[$i]=1; break; fi
    done
    if [[ -n $reason ]]; then
      explained=$((explained + 1))
      printf '%s\t%s\t%s\n' "$reason" "$field" "$n" >>"$work/differences"
    else
      unexplained=$((unexplained + 1))
      echo "unexplained: $n: $field: gateway ${ours:-(none)} nginx ${theirs:-(none)}"
    fi
  done < <(cut -d' ' -f1 "$work/answers/gateway/$n" "$work/answers/nginx/$n" | LC_ALL=C sort -u)
done
step "${#requests[@]} requests, $equal fields equal, $explained different with a reason, $unexplained without"
LC_ALL=C sort "$work/differences" | awk -F'\t' '
  function tell() { if (reason != "") printf "  %-22s %3d x  %s\n", fields, n, reason }
  $1 != reason { tell(); reason = $1; fields = $2; n = 0; split("", seen); seen[$2] = 1 }
  !($2 in seen) { seen[$2] = 1; fields = fields "," $2 }
  { n++ }
  END { tell() }'
check "every difference has a reason" test "$unexplained" = 0
for i in "${!reasons[@]}"; do
  [[ -n ${used_why[$i]:-} ]] || check "the reason for ${why_field[i]} ${why_value[i]} of ${why_request[i]} is needed" false
done
check "the mirror has no trouble with a file" not says mirror 'cannot be'
check "no stack trace of the mirror" no_trace mirror
stop TERM mirror
stop QUIT nginx
finish
