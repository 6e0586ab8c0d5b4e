/* SPDX-License-Identifier: GPL-3.0-or-later */
/* A library that needs c10::Error's constructor with the old C++ ABI, in a wheel whose name says the new one: as
   flash_attn-2.8.2+cu12torch2.6cxx11abiFALSE was the other way round (Dao-AILab/flash-attention#1783). */
#include <Python.h>

extern void _ZN3c105ErrorC2ENS_14SourceLocationESs(void);

static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, "flash_attn_2_cuda", NULL, -1, NULL, NULL, NULL, NULL, NULL};

PyMODINIT_FUNC PyInit_flash_attn_2_cuda(void) {
  PyObject *self = PyModule_Create(&module);
  if (self == NULL) _ZN3c105ErrorC2ENS_14SourceLocationESs();
  return self;
}
