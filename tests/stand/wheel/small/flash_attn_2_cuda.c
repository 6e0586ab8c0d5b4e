/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A library for the trees of files: it needs of torch what tells the new C++ ABI, and of Python only what all versions have. */
#define Py_LIMITED_API 0x03080000
#include <Python.h>

#ifdef __aarch64__
#define MACHINE "aarch64"
#else
#define MACHINE "x86_64"
#endif

extern void _ZN3c105ErrorC2ENS_14SourceLocationENSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE(void);

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "flash_attn_2_cuda", NULL, -1, NULL, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_flash_attn_2_cuda(void) {
  PyObject *self = PyModule_Create(&module);
  _ZN3c105ErrorC2ENS_14SourceLocationENSt7__cxx1112basic_stringIcSt11char_traitsIcESaIcEEE();
  if (self != NULL) PyModule_AddStringConstant(self, "MACHINE", MACHINE);
  return self;
}
