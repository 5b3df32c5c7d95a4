# shellcheck shell=bash disable=SC2154,SC2034
# Web servers of origins: nginx with both of its indexes, apache2 and lighttpd, each as its package comes. Sets origin_url and
# origin_log, where one line is one request; origin_hides are names that it does not list.

# serve_http NAME DIR: starts nginx, nginx-json, apache2 or lighttpd.
serve_http() {
  origin_log=$work/logs/$1.access
  origin_hides=()
  : >>"$origin_log"
  case $1 in
    nginx*) origin_port=8001; serve_nginx "$@"; origin_hides=('.*') ;;
    apache2) origin_port=8003; serve_apache2 "$@" ;;
    lighttpd) origin_port=8004; serve_lighttpd "$@"; origin_hides=('.*') ;;
  esac
  origin_url=http://$origin_host:$origin_port/
  until_true 60 "$1 answers" answers "$origin_port"
}

serve_nginx() {
  local format=html
  [[ $1 != nginx-json ]] || format=json
  cat >"$work/$1.conf" <<END
daemon off; worker_processes 2; user root; pid $work/$1.pid; error_log $work/logs/$1.err;
events {}
http {
  default_type application/octet-stream; sendfile on; access_log $origin_log combined;
  server { listen $origin_port; root "$2"; index none; autoindex on; autoindex_format $format; }
}
END
  serve "$1" nginx -p "$work" -c "$work/$1.conf" -e "$work/logs/$1.err"
}

serve_apache2() {
  local m modules=/usr/lib/apache2/modules
  mkdir -p "$work/apache2"
  {
    for m in mpm_event authz_core autoindex dir; do echo "LoadModule ${m}_module $modules/mod_$m.so"; done
    cat <<END
ServerRoot $work/apache2
ServerName localhost
Listen $origin_port
PidFile $work/apache2/pid
Mutex posixsem
User nobody
Group nogroup
ErrorLog $work/logs/$1.err
LogFormat "%h %l %u %t \\"%r\\" %>s %O" combined
CustomLog $origin_log combined
DocumentRoot "$2"
DirectoryIndex disabled
<Directory "$2">
  Options Indexes FollowSymLinks
  Require all granted
  IndexOptions FancyIndexing VersionSort NameWidth=*
</Directory>
END
  } >"$work/$1.conf"
  serve "$1" /usr/sbin/apache2 -D FOREGROUND -f "$work/$1.conf"
}

serve_lighttpd() {
  local dir
  dir=$(unpacked lighttpd)
  cat >"$work/$1.conf" <<END
server.modules = ( "mod_dirlisting", "mod_accesslog" )
server.document-root = "$2"
server.port = $origin_port
server.bind = "0.0.0.0"
server.errorlog = "$work/logs/$1.err"
accesslog.filename = "$origin_log"
accesslog.format = "%h %l %u %t \"%r\" %>s %b"
# A file of a type that is not listed has neither a time nor an ETag, and nobody can go on in the middle of it.
mimetype.assign = ( "" => "application/octet-stream" )
dir-listing.activate = "enable"
dir-listing.encoding = "utf-8"
END
  serve "$1" "$dir/usr/sbin/lighttpd" -D -m "$dir/usr/lib/lighttpd" -f "$work/$1.conf"
}

# Requests since a mark in the log: all, and those that got a file. lighttpd writes its log when it likes, or is told to begin a new one.
logged() {
  [[ $serving != lighttpd-server ]] || signal HUP "$serving"
  sleep 0.3
}
mark_http() { logged; marked=$(wc -l <"$origin_log"); }
requests_http() { logged; tail -n "+$((marked + 1))" "$origin_log" | wc -l; }
files_http() { tail -n "+$((marked + 1))" "$origin_log" | grep -Ec '"GET [^ ]*[^/ ] HTTP[^"]*" 20' || true; }
