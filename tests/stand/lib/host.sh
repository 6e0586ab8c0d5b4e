# shellcheck shell=bash
# SPDX-License-Identifier: GPL-3.0-or-later
# What the stand needs of its host: packages, a venv of tools, and the host's own package sources, so that no mirror
# and no index is named anywhere in this repository.

TOOLS=$CACHE/tools # a venv of the system's Python, which is the nodes' Python too: it also builds their wheels

install_packages() {
  local missing=() command package
  while read -r command package; do
    type -P "$command" >/dev/null || missing+=("$package")
  done <<'LIST'
mmdebstrap mmdebstrap
ssh openssh-client
ip iproute2
tc iproute2
pgrep procps
nginx nginx-light
tinyproxy tinyproxy-bin
curl curl
openssl openssl
g++ g++
LIST
  dpkg-query -W python3-venv >/dev/null 2>&1 || missing+=(python3-venv)
  dpkg-query -W python3-dev >/dev/null 2>&1 || missing+=(python3-dev)
  [ ${#missing[@]} = 0 ] || step "installing ${missing[*]}" apt_quietly "${missing[@]}"
}

# No daemon may start on the host because the stand needs its program: not now, and not at the next boot.
apt_quietly() (
  local policy=/usr/sbin/policy-rc.d
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod +x "$policy"
    # shellcheck disable=SC2064 # the path is wanted as it is now
    trap "rm -f $policy" EXIT
  fi
  apt-get -qq update
  DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends "$@" >/dev/null
  case " $* " in *" nginx-light "*) systemctl --quiet disable nginx 2>/dev/null || true ;; esac
)

make_tools() {
  [ -e "$TOOLS" ] && return
  step "making a venv of tools" make_tools_venv
}
make_tools_venv() {
  # a venv cannot be moved, so it is built in place and is not there until its link is
  local home=$CACHE/tools.d
  rm -rf "$home"
  /usr/bin/python3 -m venv "$home"
  "$home/bin/pip" install -qq --upgrade pip
  "$home/bin/pip" install -qq setuptools wheel 'pypiserver==2.4.*'
  ln -s tools.d "$TOOLS"
}

# archive RELEASE: the host's own distribution archive as one-line sources, turned to that release
archive() {
  local release=$1 uri suite component
  [ -n "$(archive_targets)" ] || apt-get -qq update
  archive_targets | while read -r uri suite component; do
    case $suite in
      "$VERSION_CODENAME" | "$VERSION_CODENAME"-updates | "$VERSION_CODENAME"-security)
        echo "deb $uri ${suite/#$VERSION_CODENAME/$release} $component" ;;
    esac
  done
}
# Origin: other archives, such as Docker's, name their suites after the distribution's
archive_targets() {
  # shellcheck disable=SC2016 # apt's own placeholders
  apt-get indextargets --format '$(REPO_URI) $(RELEASE) $(COMPONENT)' 'Created-By: Packages' "Origin: ${ID^}" | sort -u
}
