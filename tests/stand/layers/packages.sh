# shellcheck shell=bash
# SPDX-License-Identifier: GPL-3.0-or-later
# install_packages LAYER: installs what was downloaded for it, without letting a daemon start.
install_packages() {
  policy=/usr/sbin/policy-rc.d
  printf '#!/bin/sh\nexit 101\n' >"$policy"
  chmod +x "$policy"
  # apt rather than dpkg, for it knows the order
  DEBIAN_FRONTEND=noninteractive apt-get -qq install --no-install-recommends -o APT::Sandbox::User=root \
    "/tmp/downloads/$1-$(. /etc/os-release && echo "$VERSION_CODENAME")"/*.deb >/tmp/apt.log 2>&1 ||
    { cat /tmp/apt.log >&2; exit 1; }
  rm -rf "$policy" /var/lib/apt/lists/* /var/cache/apt/* /var/log/apt /var/log/dpkg.log /run/adduser
}
