# Copyright (c) the airgap.torch_extensions authors
# BSD 2-Clause License (see LICENSES/BSD-2-Clause.txt)
# SPDX-License-Identifier: BSD-2-Clause

# Private to this collection: it may change in any release.

"""The process that builds: it runs by itself, and goes on where an earlier one has ended."""

from __future__ import annotations

import contextlib
import os
import resource
import shlex
import signal
import socket
import subprocess
import sys
import time
import traceback
import typing as t

from ansible_collections.airgap.torch_extensions.plugins.module_utils._build import (
    checks,
    fronts,
    machine,
    processes,
    progress,
    sources,
    toolkit,
    unpacking,
)
from ansible_collections.airgap.torch_extensions.plugins.module_utils._build.builder import Builder, look_at
from ansible_collections.airgap.torch_extensions.plugins.module_utils._build.job_folder import (
    JobFolder,
    read_json,
    write_json,
)
from ansible_collections.airgap.torch_extensions.plugins.module_utils._contract.errors import TorchExtensionError
from ansible_collections.airgap.torch_extensions.plugins.module_utils._files.hashes import sha256_of

RUNNING, FINISHED, FAILED = "running", "finished", "failed"

_PROGRAMS = {"gcc": "cc", "cc": "cc", "g++": "c++", "c++": "c++"}  # names of fronts, and what each is one of
# Names that stand in what is built for the folders of this machine.
_SOURCES_NAME, _PACKAGES_NAME, _CUDA_NAME, _FOLDER_NAME = "/build", "/packages", "/cuda", "/job"


class _StoppedError(Exception):
    """Somebody has ended this process: Slurm, or who shuts the machine down."""


class _TimeUpError(Exception):
    """The job has taken longer than it may."""


def run_job(folder: JobFolder) -> None:
    """Build, and write down what has come of it. The lock of the folder is held by the caller."""
    job = read_json(folder.job)
    state: dict[str, t.Any] = {
        "state": RUNNING,
        "message": "begins",
        "started": time.time(),
        "host": socket.gethostname(),
        "wheel": None,
        "compilers": {},
        "core_seconds": read_json(folder.state).get("core_seconds", 0.0),
    }
    before = state["core_seconds"]
    write_json(folder.state, state)
    os.environ[processes.MARK] = folder.path
    signal.signal(signal.SIGTERM, _stop)
    job_run = _Run(job, folder, state)
    try:
        state["wheel"] = job_run.build()
        state.update(state=FINISHED, message="")
    except TorchExtensionError as exc:
        state.update(state=FAILED, message=str(exc))
    except _TimeUpError:
        state.update(state=FAILED, message=_explain_time(job, folder))
    except _StoppedError:
        state.update(state=FAILED, message="The build was ended (SIGTERM). Another run goes on from what is compiled.")
    except OSError as exc:
        state.update(state=FAILED, message=f"The build broke off: {exc}.")
        traceback.print_exc()
    except BaseException as exc:
        state.update(state=FAILED, message=f"The build broke off: {type(exc).__name__}: {exc}. See {folder.log}.")
        traceback.print_exc()
    processes.kill_processes(folder.path)
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    state.update(ended=time.time(), core_seconds=round(before + usage.ru_utime + usage.ru_stime, 1))
    write_json(folder.state, state)


def _stop(_signal: int, _frame: t.Any) -> None:
    raise _StoppedError


def _explain_time(job: t.Mapping[str, t.Any], folder: JobFolder) -> str:
    step, steps = progress.read_steps(folder.log)
    done = f" at step {step} of {steps}" if steps else ""
    last = progress.last_compiled(folder.compiled)
    work = f" What was last compiled is {progress.shorten_path(last, folder.sources)}." if last else ""
    return (
        f"The build of {job['name']} {job['version']} has taken {job['time_limit'] / 60:.0f} minutes, which is the limit, and was ended{done}.{work}"
        " Another run goes on from what is compiled; torch_extension_build_time_limit gives it more time."
    )


class _Run:
    """One run of a job."""

    def __init__(self, job: t.Mapping[str, t.Any], folder: JobFolder, state: dict[str, t.Any]) -> None:
        self._job, self._folder, self._state = job, folder, state
        self._deadline = time.monotonic() + job["time_limit"]
        self._environ: dict[str, str] = {}

    def build(self) -> dict[str, t.Any]:
        """Build the wheel, and tell what it is."""
        job, folder = self._job, self._folder
        self._tell("looks at the machine")
        checks.check_room(job, folder)
        builder = look_at(job["python"], job["module"], dict(os.environ))
        tools = checks.check_tools(job, folder, builder)
        nvcc = tools.nvcc
        self._state["compilers"] = {"cxx": tools.pair.cxx.version, "nvcc": nvcc and nvcc.build}
        self._tell("unpacks the sources")
        self._once(folder.sources, lambda: unpacking.unpack(folder.delivered(job["sdist"]), folder.sources))
        source = unpacking.only_folder(folder.sources)
        if not any(os.path.isfile(os.path.join(source, name)) for name in ("setup.py", "pyproject.toml")):
            raise TorchExtensionError(
                f"{job['sdist']['filename']} has neither setup.py nor pyproject.toml in its first folder. Wanted is an sdist, or an archive"
                " of a repository that can be built. Take the archive from its project."
            )
        self._tell("makes the environment of the build")
        self._environ = self._own_environ(builder)
        self._once(folder.venv, lambda: self._make_venv(builder))
        cuda = None
        if nvcc:
            cuda = nvcc.home or folder.cuda
            if not nvcc.home:
                self._tell("unpacks NVIDIA's compiler")
                self._once(folder.cuda, lambda: self._unpack_cuda(folder.cuda))
        packages = self._package_folders(builder)
        self._write_fronts(tools, cuda, packages, source)
        if cuda:
            self._link_toolkit(cuda, packages)
        self._tell("compiles")
        return self._make_wheel(source)

    def _tell(self, message: str) -> None:
        self._state["message"] = message
        write_json(self._folder.state, self._state)

    def _once(self, path: str, make: t.Callable[[], object]) -> None:
        """Make a folder unless an earlier run has made it whole."""
        stamp = f"{path}.whole"
        if os.path.exists(stamp):
            return
        unpacking.remove(path)
        os.makedirs(path)
        make()
        with open(stamp, "w", encoding="utf-8"):
            pass

    def _make_venv(self, builder: Builder) -> None:
        folder, job = self._folder, self._job
        python = builder.interpreter.executable
        self._run([python, "-m", "venv", "--without-pip", folder.venv], "make a virtual environment", folder.path)
        requirements = [folder.delivered(file) for file in [*job["requirements"], *job["torch"]]]
        pips = [path for path in requirements if os.path.basename(path).startswith("pip-")]
        if not pips:
            raise TorchExtensionError("job.requirements has no wheel of pip, with which the others are installed.")
        if not job["torch"]:
            self._add_environment(builder)
        install = ["install", "--no-index", "--no-deps", "--no-compile", *requirements]
        self._run(
            [self._python(), os.path.join(pips[0], "pip"), *install], "install what the build requires", folder.path
        )

    def _add_environment(self, builder: Builder) -> None:
        """Put the packages of the environment behind the build's own."""
        lines = [f"import site; site.addsitedir({entry.folder!r})" for entry in builder.interpreter.path]
        with open(os.path.join(self._site_packages(), "environment.pth"), "w", encoding="utf-8") as file:
            file.write("\n".join(lines) + "\n")

    def _python(self) -> str:
        return os.path.join(self._folder.venv, "bin", "python")

    def _site_packages(self) -> str:
        version = next(name for name in os.listdir(os.path.join(self._folder.venv, "lib")) if name.startswith("python"))
        return os.path.join(self._folder.venv, "lib", version, "site-packages")

    def _package_folders(self, builder: Builder) -> list[str]:
        """Where torch and its libraries may be, most important first."""
        others = [] if self._job["torch"] else [entry.folder for entry in builder.interpreter.path]
        return [self._site_packages(), *others]

    def _unpack_cuda(self, folder: str) -> None:
        toolchain = self._job["toolchain"]
        files = [*(toolchain.get("wheels") or []), *(toolchain.get("archives") or [])]
        toolkit.unpack_cuda([self._folder.delivered(file) for file in files], folder)

    def _link_toolkit(self, cuda: str, packages: t.Sequence[str]) -> None:
        folder = self._folder
        unpacking.remove(folder.toolkit)
        os.mkdir(folder.toolkit)
        nvidia = toolkit.find_nvidia_folders(packages)
        toolkit.link_toolkit(cuda, nvidia, folder.toolkit, os.path.join(folder.bin, "nvcc"))
        self._environ.update(
            CUDA_HOME=folder.toolkit,
            CUDA_PATH=folder.toolkit,
            CUDACXX=os.path.join(folder.bin, "nvcc"),
            CPATH=":".join(toolkit.include_path(folder.toolkit, nvidia)),
            TORCH_CUDA_ARCH_LIST=";".join(self._job["archs"]),
        )

    def _write_fronts(self, tools: checks.Tools, cuda: str | None, packages: t.Sequence[str], source: str) -> None:
        folder = self._folder
        unpacking.remove(folder.bin)
        os.mkdir(folder.bin)
        script = os.path.join(folder.bin, "fronts.py")
        with open(script, "w", encoding="utf-8") as file:
            file.write(sources.read_source(fronts.__name__) or "")
        maps = [[path, f"{_PACKAGES_NAME}"] for path in packages]
        maps += [[cuda, _CUDA_NAME], [folder.toolkit, _CUDA_NAME]] if cuda else []
        # gcc takes the last one that fits
        maps = [[folder.path, _FOLDER_NAME], *maps, [source, _SOURCES_NAME]]
        cc, cxx = tools.pair
        programs = {"cc": cc and cc.path, "c++": cxx.path, "nvcc": cuda and os.path.join(cuda, "bin", "nvcc")}
        write_json(
            os.path.join(folder.bin, "fronts.json"),
            {
                "compiled": folder.compiled,
                "standard": self._job["cxx_standard"],
                "maps": maps,
                "archs": [arch.replace(".", "") for arch in self._job["archs"]],
                "programs": programs,
            },
        )
        for name, program in [*_PROGRAMS.items(), ("nvcc", "nvcc")]:
            if programs[program]:
                self._write_front(os.path.join(folder.bin, name), script, program)

    def _write_front(self, path: str, script: str, program: str) -> None:
        command = " ".join(shlex.quote(word) for word in (sys.executable, "-IS", script, program))
        with open(path, "w", encoding="utf-8") as file:
            file.write(f'#!/bin/sh\nexec {command} "$@"\n')
        os.chmod(path, 0o700)

    def _own_environ(self, builder: Builder) -> dict[str, str]:
        """The variables of the build: none of the user's, but those of the environment module."""
        job, folder = self._job, self._folder
        os.makedirs(folder.home, exist_ok=True)
        path = [folder.bin, os.path.join(folder.venv, "bin"), builder.environ["PATH"]]
        jobs = job["jobs"] or count_jobs(
            machine.usable_cores(), machine.available_memory_mib(), job["memory_per_job_mib"]
        )
        return {
            **builder.module_environ,
            "PATH": ":".join(path),
            "HOME": folder.home,
            "TMPDIR": folder.home,
            "XDG_CACHE_HOME": folder.home,
            "LC_ALL": "C.UTF-8",
            "PYTHONUTF8": "1",
            "PYTHONHASHSEED": "0",
            **self._bytecode_variables(builder),
            "PYTHONNOUSERSITE": "1",
            "PYTHONUNBUFFERED": "1",
            "PIP_CONFIG_FILE": os.devnull,
            "PIP_NO_INDEX": "1",
            "PIP_NO_CACHE_DIR": "1",
            "PIP_DISABLE_PIP_VERSION_CHECK": "1",
            "PIP_NO_INPUT": "1",
            "CC": os.path.join(folder.bin, "gcc"),
            "CXX": os.path.join(folder.bin, "g++"),
            "CUDAHOSTCXX": os.path.join(folder.bin, "g++"),
            "MAX_JOBS": str(jobs),
            "CMAKE_BUILD_PARALLEL_LEVEL": str(jobs),
            "NVCC_THREADS": "1",
            "SOURCE_DATE_EPOCH": str(job["epoch"]),
            processes.MARK: folder.path,
            **job["environ"],
        }

    def _bytecode_variables(self, builder: Builder) -> dict[str, str]:
        """Nothing is written into the environment; from Python 3.8 on bytecode has a place of its own."""
        if builder.interpreter.version.startswith("3.7."):
            return {"PYTHONDONTWRITEBYTECODE": "1"}
        return {"PYTHONPYCACHEPREFIX": os.path.join(self._folder.home, "pycache")}

    def _make_wheel(self, source: str) -> dict[str, t.Any]:
        folder = self._folder
        unpacking.remove(folder.wheels)
        options = ["--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", folder.wheels]
        self._run([self._python(), "-m", "pip", "-v", "wheel", *options, source], "", source)
        names = os.listdir(folder.wheels)
        if len(names) != 1 or not names[0].endswith(".whl"):
            raise TorchExtensionError(
                f"{self._job['sdist']['filename']} gives {', '.join(sorted(names)) or 'no wheel'}, wanted is one wheel."
            )
        name = label_filename(names[0], self._job["label"])
        path = os.path.join(folder.wheels, name)
        os.replace(os.path.join(folder.wheels, names[0]), path)
        return {"filename": name, "path": path, "sha256": sha256_of(path), "size": os.path.getsize(path)}

    def _run(self, command: t.Sequence[str], wanted: str, cwd: str) -> None:
        """Run a program of the build, whose output goes to the log.

        :param wanted: of it, in words that follow "could not"; empty for the build itself
        :raises TorchExtensionError: with the first real error of what it printed
        """
        start = os.path.getsize(self._folder.log)
        print("+", " ".join(map(shlex.quote, command)), flush=True)
        process = subprocess.Popen(command, stdin=subprocess.DEVNULL, cwd=cwd, env=self._environ)
        try:
            status = process.wait(max(0.0, self._deadline - time.monotonic()))
        except subprocess.TimeoutExpired:
            raise _TimeUpError from None
        finally:
            if process.poll() is None:
                processes.kill_processes(self._folder.path)
                process.wait()
        if status:
            with open(self._folder.log, encoding="utf-8", errors="replace") as file:
                file.seek(start)
                failure = progress.explain_failure(file.read(), status)
            job = self._job
            subject = f"The builder could not {wanted}" if wanted else f"{job['name']} {job['version']} cannot be built"
            raise TorchExtensionError(
                f"{subject}: {failure}. The whole log is {self._folder.log} on {self._state['host']}."
            )


def count_jobs(cores: int, memory_mib: int, memory_per_job_mib: int) -> int:
    """How many compilers may run at once."""
    by_memory = memory_mib // memory_per_job_mib if memory_per_job_mib else cores
    return max(1, min(cores, by_memory))


def label_filename(filename: str, label: str | None) -> str:
    """The name of a wheel with a local label in its version."""
    name, version, tags = filename.split("-", 2)
    if label:
        version += ("." if "+" in version else "+") + label
    return f"{name}-{version}-{tags}"


def main(arguments: t.Sequence[str]) -> None:
    """Run the job of a folder. The lock is inherited, as an open file whose number is given; or taken here."""
    import fcntl

    path, *inherited = arguments
    folder = JobFolder(*os.path.split(path))
    handle = int(inherited[0]) if inherited else os.open(folder.lock, os.O_RDWR | os.O_CREAT, 0o600)
    os.set_inheritable(handle, False)
    if not inherited:
        with contextlib.suppress(OSError):  # a file system without locks gives none
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return  # it runs elsewhere
    run_job(folder)
