/* SPDX-License-Identifier: GPL-3.0-or-later */
/* torch/_C of the trees of files: all it does is bring libc10.so along, as torch's own does. For any Python. */
#define Py_LIMITED_API 0x03080000
#include <Python.h>

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "_C", NULL, -1, NULL, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit__C(void) { return PyModule_Create(&module); }
