// SPDX-License-Identifier: GPL-3.0-or-later
#include <sstream> // what takes a moment to compile

int part_NN(int x) { return x + 1NN - 100; }
