# SPDX-License-Identifier: GPL-3.0-or-later
"""look_like_cuda.py RELEASE CUDA: edits the torch of the running Python, a CPU build, to say that it is a CUDA build.

As in the wheels of a package index, torch/version.py carries the label (+cu126) and the METADATA does not.
"""

import base64
import hashlib
import pathlib
import re
import shutil
import sys
import sysconfig

release, cuda = sys.argv[1:]
label = "+cu" + cuda.replace(".", "")
site = pathlib.Path(sysconfig.get_path("purelib"))

version = site / "torch/version.py"
text = version.read_text()
text = re.sub(r"(?m)^(__version__\b.*= *).*", rf"\g<1>'{release}{label}'", text)
text = re.sub(r"(?m)^(cuda\b.*= *).*", rf"\g<1>'{cuda}'", text)
version.unlink()  # it may be a hard link
version.write_text(text)

# without this it takes no CUDA compiler: it asks whether torch has the functions of a CUDA build
cpp_extension = site / "torch/utils/cpp_extension.py"
text = cpp_extension.read_text()
text, count = re.subn(r"(?m)^(CUDA_HOME = _find_cuda_home\(\)) if .*", r"\1", text)
assert count == 1, "torch/utils/cpp_extension.py sets CUDA_HOME in another way"
cpp_extension.unlink()
cpp_extension.write_text(text)

old = site / f"torch-{release}+cpu.dist-info"
info = site / f"torch-{release}.dist-info"
shutil.move(old, info)  # overlayfs cannot rename a folder of a lower layer
metadata = info / "METADATA"
text = metadata.read_text()
metadata.unlink()
metadata.write_text(re.sub(r"(?m)^Version: .*", f"Version: {release}", text, count=1))

record = info / "RECORD"
lines = []
for line in record.read_text().replace(old.name, info.name).splitlines():
    path, rest = line.split(",", 1)
    if path in ("torch/version.py", "torch/utils/cpp_extension.py", f"{info.name}/METADATA"):
        data = (site / path).read_bytes()
        digest = base64.urlsafe_b64encode(hashlib.sha256(data).digest()).decode().rstrip("=")
        rest = f"sha256={digest},{len(data)}"
    lines.append(f"{path},{rest}\n")
record.unlink()
record.write_text("".join(lines))
