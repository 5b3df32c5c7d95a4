#!/usr/bin/env bash
# What a run costs beside the tools that mirror today: lftp, wget and rsync on the same tree and the same server: seconds, requests as the
# server's log has them, and MiB over the wire, for the first run, one without a change and one after changes. A figure is never
# a failure: machines differ.
#
# ORIGINS="nginx vsftpd" are the servers; all by default. FIGURES_DELAY=20ms makes the origin that far away, there and back.
# shellcheck disable=SC2154,SC2034 # what origins.sh sets and uses
set -eu
# shellcheck source=.ci/e2e/lib.sh
source "$(dirname "$0")/lib.sh"
story figures-origins
for part in origins origins-http origins-ftp origins-ssh; do
  # shellcheck disable=SC1090 # each is checked by itself
  source "$here/$part.sh"
done
far_up
origin_tree "$work/tree"
rm -rf "$work/tree/links" "$work/tree"/odd/back* # wget would go round in the loop; pure-ftpd refuses that name
if [[ -n ${FIGURES_DELAY:-} ]]; then ip netns exec "$far" tc qdisc add dev eth0 root netem delay "$FIGURES_DELAY"; fi
rows=()

ours() {
  if [[ -z ${master_port:-} ]]; then
    free_port; master_port=$port
    origin_master "$server" "$origin_url"
    wait_published "$server"
  else
    again "$server"
  fi
}
lftp_run() { (mkdir -p "$work/lftp" && cd "$work/lftp" && lftp -c "set ssl:verify-certificate no; set ftp:ssl-allow no; set sftp:connect-program 'ssh -a -x -i $work/user_key -o UserKnownHostsFile=$work/known_hosts'; set mirror:parallel-transfer-count 4; open $1; mirror --delete . ."); }
wget_run() { (mkdir -p "$work/wget" && cd "$work/wget" && wget -q --mirror --no-parent --no-host-directories -e robots=off "$origin_url"); }
rsync_run() { # an empty command line of ssh is none
  rsync -a --delete ${2:+-e "$2"} "$1" "$work/rsync/"
}
tool() {
  case $1 in
    swarmnode) ours ;;
    lftp) case $server in
      sftp) lftp_run "-u root, $origin_url" ;;
      pure-ftpd) lftp_run "-u $ftp_user,'$ftp_password' ftp://$origin_host:$origin_port/" ;;
      *) lftp_run "$origin_url" ;;
    esac ;;
    wget) wget_run ;;
    rsync) if [[ $server == rsyncd ]]; then rsync_run "$origin_url"; else rsync_run "root@$origin_host:$origin_dir/" "ssh -p $origin_port -i $work/user_key -o UserKnownHostsFile=$work/known_hosts"; fi ;;
  esac
}

measured() { # measured TOOL PROTOCOL: one run, as a cell
  local start_time bytes took
  "mark_$2"
  start_time=$(seconds) bytes=$(from_origin)
  tool "$1" >>"$work/logs/$1.out" 2>&1 || echo "$1: exit $?" >>"$work/logs/$1.out"
  took=$(since "$start_time")
  requests=$("requests_$2") files=$("files_$2")
  cell="$took s, $requests, $(mib $(($(from_origin) - bytes)))"
}

# each SERVER PROTOCOL TOOL...: a tree of its own for each tool, so that all see the same changes.
each() {
  local protocol=$2 t r row
  server=$1
  shift 2
  for t in "$@"; do
    rm -rf "$work/${server:?}" "$work/lftp" "$work/wget" "$work/rsync" "$work/$server-home"
    origin_tree_copy "$server"
    "serve_$protocol" "$server" "$origin_dir"
    master_port=
    origin_flags=()
    case $server in sftp | rsync-ssh) origin_flags=(--ssh-key "$work/user_key" --known-hosts "$work/known_hosts") ;; pure-ftpd) origin_flags=(--netrc "$work/netrc") ;; esac
    row=$(printf '%-11s %-10s' "$server" "$t")
    for r in first unchanged changed; do
      [[ $r != changed ]] || changed_tree "$origin_dir"
      measured "$t" "$protocol"
      row+=$(printf ' %-32s' "$cell")
    done
    rows+=("$row")
    step "$row"
    [[ -z ${pid[$server]:-} || $t != swarmnode ]] || stop TERM "$server"
    far_kill
  done
}

for o in ${ORIGINS:-nginx apache2 lighttpd vsftpd pure-ftpd sftp rsyncd rsync-ssh}; do
  case $o in
    nginx | apache2 | lighttpd) each "$o" http swarmnode lftp wget ;;
    vsftpd) each "$o" ftp swarmnode lftp wget ;;
    pure-ftpd) each "$o" ftp swarmnode lftp ;;
    sftp) each "$o" ssh swarmnode lftp ;;
    rsyncd | rsync-ssh) each "$o" ssh swarmnode rsync ;;
  esac
done
printf '%-11s %-10s %-32s %-32s %-32s\n' server tool first unchanged changed
printf '%s\n' "${rows[@]}"
finish
