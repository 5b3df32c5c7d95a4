#!/usr/bin/env bash
# What a run costs beside the tools that mirror today, lftp, wget, rsync, apt-mirror, debmirror and dnf reposync, with the same tree at the same server: seconds, the
# processor time of the client, requests (HTTP), commands (FTP) or what was opened (SFTP) as the server's log has them, or MiB sent (rsync), and MiB that
# came; for the first run, one without a change and one after changes. Prints a table in Markdown. Our first run includes the
# start of a node and the making of its keys. A figure is never a failure, machines differ; a tool that did not do its work is.
#
# ORIGINS="nginx vsftpd" are the servers; all by default. FIGURES_DELAY=20ms makes the origin that far away, there and back.
# shellcheck disable=SC2154,SC2034 # what origins.sh sets and uses
set -eu
# shellcheck source=.ci/e2e/lib.sh
source "$(dirname "$0")/lib.sh"
story figures-origins
unset http_proxy https_proxy ftp_proxy all_proxy HTTP_PROXY HTTPS_PROXY ALL_PROXY no_proxy
for part in origins origins-http origins-ftp origins-ssh origins-repo packages-tree packages-apt; do
  # shellcheck disable=SC1090 # each is checked by itself
  source "$here/$part.sh"
done
far_up
origin_tree "$work/tree"
rm -rf "$work/tree/links" "$work/tree"/odd/back* # wget would go round in the loop; pure-ftpd refuses that name
if [[ -n ${FIGURES_DELAY:-} ]]; then ip netns exec "$far" tc qdisc add dev eth0 root netem delay "$FIGURES_DELAY"; fi
rows=()
copy=$work/copy # what a tool makes

# --- the tools ------------------------------------------------------------------------------------------------------------

ours() {
  if [[ -z ${master_port:-} ]]; then
    free_port; master_port=$port
    origin_master "$server" "$our_url"
    local said=''
    until [[ $said == *'"published"'* ]]; do # jq at each look would be half of a processor
      running "$server" || return 1
      sleep 0.02
      IFS= read -r -d '' said <"$work/logs/$server.out" || true
    done
  else
    again "$server"
    ((status == 0))
  fi
}
lftp_run() {
  (cd "$copy" && lftp -c "set ssl:verify-certificate no; set ftp:ssl-allow no; set sftp:connect-program 'ssh -a -x -i $work/user_key -o UserKnownHostsFile=$work/known_hosts'
    set mirror:parallel-transfer-count 4; open $1; mirror --delete . .")
}
wget_run() { (cd "$copy" && wget -q --mirror --no-parent --no-host-directories -e robots=off "$origin_url"); }
rsync_run() { rsync -a --delete ${2:+-e "$2"} "$1" "$copy/"; } # an empty command line of ssh is none
apt_mirror_run() {
  mkdir -p "$copy"/{skel,var}
  printf 'set base_path %s\nset nthreads 4\nset defaultarch amd64\nset run_postmirror 0\nset limit_rate 1000m\ndeb %s story main\nclean %s\n' "$copy" "${origin_url%/}" "${origin_url%/}" >"$copy/mirror.list"
  apt-mirror "$copy/mirror.list" && if [[ -s $copy/var/clean.sh ]]; then bash "$copy/var/clean.sh"; fi
}
debmirror_run() {
  debmirror --host="$origin_host:$origin_port" --method=http --root=/ --dist=story --section=main --arch=amd64 --nosource --i18n --rsync-extra=none --diff=none --getcontents \
    --keyring="$work/story.gpg" --progress "$copy"
}
reposync_run() {
  local r=$work/reposync lib
  lib=$(unpacked dnf-plugins-core)/usr/lib/python3/dist-packages # installed, it would be instead of zypper
  mkdir -p "$r"
  printf '[main]\ninstallroot=%s\nreposdir=%s/none\npluginpath=%s/dnf-plugins\ncachedir=%s/cache\nlogdir=%s\nassumeyes=1\nmax_parallel_downloads=4\n[story]\nname=story\nenabled=1\ngpgcheck=0\nrepo_gpgcheck=1\ngpgkey=file://%s\nbaseurl=%s\n' \
    "$r" "$r" "$lib" "$r" "$r" "$work/story.asc" "$origin_url" >"$r.conf"
  PYTHONPATH=$lib dnf -q -c "$r.conf" --installroot "$r" --releasever 1 --forcearch x86_64 --disableplugin '*' --enableplugin reposync \
    reposync --repo story --norepopath --download-metadata --delete -p "$copy"
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
    apt-mirror) apt_mirror_run ;;
    debmirror) debmirror_run ;;
    reposync) reposync_run ;;
  esac
}

# packages_in: the directory of packages in an archive; "" in other trees.
packages_in() {
  case $server in
    apt) echo pool ;;
    rpm) echo packages ;;
  esac
}

# lacking: how many files that the server shows its copy does not have as long as they are; of an archive packages. Some tools do not find each odd name.
lacking() {
  comm -23 <(files_in "$origin_dir" "$(packages_in)" | if ((${#origin_hides[@]})); then grep -Ev '(^|/)\.'; else cat; fi) <(files_in "$copy") >"$work/logs/missing"
  wc -l <"$work/logs/missing"
}
files_in() { find "$1/${2:-}" -type f -printf '%P %s\n' | if [[ -n $(packages_in) ]]; then sed 's|.*/||'; else cat; fi | LC_ALL=C sort; }

# --- what is measured -----------------------------------------------------------------------------------------------------

to_origin() { cat "/sys/class/net/swo$$/statistics/tx_bytes"; }
# busy: processor time of all that this shell has waited for and of the running master, in clock ticks.
busy() {
  local f=/proc/self/stat
  [[ $1 != swarmnode ]] || f=/proc/${pid[$server]:-none}/stat
  [[ -e $f ]] || { echo 0; return; }
  if [[ $1 == swarmnode ]]; then awk '{ print $14 + $15 }' "$f"; else awk '{ print $16 + $17 }' "/proc/$$/stat"; fi
}
measured() { # measured TOOL PROTOCOL: one run; sets took, cpu, work_done and came
  local start_time bytes sent ticks
  "mark_$2"
  ticks=$(busy "$1")
  start_time=$(seconds) bytes=$(from_origin) sent=$(to_origin)
  if tool "$1" >>"$work/logs/$1.out" 2>&1; then worked=0; else worked=$?; fi
  took=$(since "$start_time")
  cpu=$(awk -v a="$ticks" -v b="$(busy "$1")" -v hz="$(getconf CLK_TCK)" 'BEGIN { printf "%.2f", (b - a) / hz }')
  came=$(awk -v a="$(($(from_origin) - bytes))" 'BEGIN { printf "%.1f", a / 1048576 }')
  if [[ $server == rsync* ]]; then
    work_done=$(awk -v a="$(($(to_origin) - sent))" 'BEGIN { printf "%.2f MiB", a / 1048576 }')
  else
    work_done=$("requests_$2")
  fi
}

begin_tree() {
  rm -rf "$work/${server:?}"
  if [[ -n $(packages_in) ]]; then
    origin_dir=$work/$server/tree
    mkdir -p "$work/$server"
    cp -a "$work/archive" "$origin_dir"
  else
    origin_tree_copy "$server"
  fi
}
change_tree() {
  case $server in
    apt) upload "$origin_dir" 2 ;;
    rpm) rpm_upload "$origin_dir" 2 ;;
    *) changed_tree "$origin_dir" ;;
  esac
}

# each SERVER PROTOCOL TOOL...: a tree of its own for each tool, so that all see the same changes. The first tool is ours, and a time of another
# has ours in parts of it behind it.
each() {
  local protocol=$2 t r row kind lacks
  local -A first
  server=$1
  shift 2
  kind=$server
  [[ -z $(packages_in) ]] || kind=nginx
  for t in "$@"; do
    rm -rf "$copy" "$work/reposync" "$work/$server-home"
    mkdir "$copy"
    begin_tree
    "serve_$protocol" "$kind" "$origin_dir"
    master_port=
    origin_flags=() our_url=$origin_url
    case $server in
      sftp | rsync-ssh) origin_flags=(--ssh-key "$work/user_key" --known-hosts "$work/known_hosts") ;;
      pure-ftpd) origin_flags=(--netrc "$work/netrc") ;;
      apt) origin_flags=(--keyring "$work/story.gpg") our_url="apt+$origin_url?suite=story&component=main&arch=amd64" ;;
      rpm) origin_flags=(--keyring "$work/story.gpg") our_url="rpm+$origin_url" ;;
    esac
    row="| $server | $t |"
    for r in first unchanged changed; do
      [[ $r != changed ]] || change_tree
      measured "$t" "$protocol"
      check "$server: $r run of $t" test "$worked" = 0
      if [[ $t == swarmnode ]]; then
        first[$r]=$took
        row+=" $took s, $cpu | $work_done | $came |"
      else
        row+=" $took s (ours ×$(ratio "${first[$r]}" "$took")), $cpu | $work_done | $came |"
      fi
    done
    lacks=0
    [[ $t == swarmnode ]] || lacks=$(lacking) # of ours the stories compare each byte
    check "$server: the copy of $t lacks $lacks files, which is not much" at_most "$lacks" 60
    ((lacks == 0)) || row=${row/ $t / $t, without $lacks files }
    rows+=("$row")
    step "$row"
    [[ -z ${pid[$server]:-} || $t != swarmnode ]] || stop TERM "$server"
    far_kill
  done
}

for o in ${ORIGINS:-nginx apache2 lighttpd vsftpd pure-ftpd sftp rsyncd rsync-ssh apt rpm}; do
  case $o in
    nginx | apache2 | lighttpd) each "$o" http swarmnode lftp wget ;;
    vsftpd) each "$o" ftp swarmnode lftp wget ;;
    pure-ftpd) each "$o" ftp swarmnode lftp ;;
    sftp) each "$o" ssh swarmnode lftp ;;
    rsyncd | rsync-ssh) each "$o" ssh swarmnode rsync ;;
    apt)
      archive
      [[ -e $work/story.gpg ]] || make_key
      apt_repository "$work/archive"
      each apt http swarmnode apt-mirror debmirror
      ;;
    rpm)
      rm -rf "$work/archive"
      [[ -e $work/story.gpg ]] || make_key
      rpm_repository "$work/archive"
      unpacked dnf-plugins-core >"$work/logs/reposync"
      each rpm http swarmnode reposync
      ;;
  esac
done
{
  echo "| origin | tool | first: seconds, of processor | requests | MiB | unchanged | requests | MiB | changed | requests | MiB |"
  echo "|---|---|---|---|---|---|---|---|---|---|---|"
  printf '%s\n' "${rows[@]}"
} | tee "$work/logs/table"
[[ -z ${FIGURES_OUT:-} ]] || cp "$work/logs/table" "$FIGURES_OUT"
finish
