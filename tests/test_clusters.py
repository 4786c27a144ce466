"""What starts a run on a cluster: checked by those who know the format, run with stand-ins."""

import importlib.machinery
import importlib.util
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import jsonschema
import kubernetes_validate
import pytest
import yaml

from vjax import main
from vjax.distributed import Meeting

ROOT = Path(main.__file__).parents[1]
LAUNCH = ROOT / "launch"
SCRIPTS = [file for file in (*LAUNCH.iterdir(), ROOT / ".ci" / "run") if file.is_file()]
BASH = [file for file in SCRIPTS if file.read_text().startswith("#!/usr/bin/env bash")]
SHELLCHECK = Path(sys.executable).with_name("shellcheck")
SCHEMAS = Path(__file__).parent / "schemas"
KUBERNETES = "1.31"
COMMAND = ("python", "-m", "vjax.main", "--config=experiments/sf2t.py", "--config.mesh.fsdp=16",
           "--config.optim.groups=('tower/.*=0', \"projector/.*=1\")")  # fmt: skip

pytestmark = pytest.mark.smoke


@pytest.fixture(scope="module")
def gke():
    loader = importlib.machinery.SourceFileLoader("gke", str(LAUNCH / "gke"))
    module = importlib.util.module_from_spec(importlib.util.spec_from_loader("gke", loader))
    loader.exec_module(module)
    return module


@pytest.fixture
def rendered(gke, capsys):
    """rendered(topology, flag, ..., command=...): the manifest."""

    def call(topology, *flags, command=("python", "-m", "vjax.main")):
        given = ["--name=sf2t", "--image=IMAGE", f"--topology={topology}", "--claim=shared"]
        assert gke.main([*given, *flags, *command]) == 0
        return yaml.safe_load(capsys.readouterr().out)

    return call


@pytest.fixture
def fakes(tmp_path, monkeypatch):
    """fakes(name, script): puts a stand-in in front of PATH."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:{Path(sys.executable).parent}:{os.environ['PATH']}")

    def put(name, script, folder=folder):
        (folder / name).write_text(script)
        (folder / name).chmod(0o755)

    return put


@pytest.fixture
def repository(tmp_path, fakes):
    """A repository with launch/, where launch/local shows what it was asked for."""
    folder = tmp_path / "repository"
    shutil.copytree(LAUNCH, folder / "launch")
    shown = 'printf "%s\\n" "$@"; env | grep -E "^(JAX_(C|N|PROC)|XLA_FLAGS|LIBTPU)"'
    fakes("local", f"#!/bin/sh\n{shown}\n", folder / "launch")
    fakes("gpu_check", "#!/bin/sh\n", folder / "launch")  # tests/test_gpu_check.py runs it
    return folder


def sh(command, **options):
    return subprocess.run(command, capture_output=True, text=True, timeout=300, **options)


def validate(manifest: dict):
    """Raises if a manifest is not what its kind's schema says, or there is no schema for it."""
    kind = manifest.get("kind")
    if kind == "Job":
        kubernetes_validate.validate(manifest, KUBERNETES, strict=True)
        return
    if kind != "JobSet":
        raise LookupError(f"no schema for {kind}")
    jsonschema.validate(manifest, json.loads((SCHEMAS / "jobset.json").read_text()))
    for job in manifest["spec"]["replicatedJobs"]:
        validate({"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": job["name"]}}
                 | job["template"])  # fmt: skip


def job_of(manifest: dict) -> dict:
    return manifest["spec"]["replicatedJobs"][0]["template"]["spec"]


def container_of(manifest: dict) -> dict:
    return job_of(manifest)["template"]["spec"]["containers"][0]


# -- scripts ----------------------------------------------------------------------------------


@pytest.mark.parametrize("file", BASH, ids=lambda file: file.name)
def test_shellcheck_has_nothing_to_say(file):
    done = sh([SHELLCHECK, file])
    assert done.returncode == 0, done.stdout


def test_a_slurm_job_of_another_folder_says_where_to_submit_it(tmp_path):
    env = os.environ | {"SLURM_SUBMIT_DIR": str(tmp_path)}
    done = sh([LAUNCH / "slurm", *COMMAND], env=env)
    assert done.returncode == 2
    wanted = f"launch/slurm: no launch/local in {tmp_path}: submit from the repository's folder\n"
    assert done.stderr == wanted


def test_slurm_reads_all_options_of_the_script():
    lines = (LAUNCH / "slurm").read_text().splitlines()
    first = next(n for n, line in enumerate(lines) if not line.startswith("#"))
    options = [line for line in lines if line.startswith("#SBATCH")]
    assert options == [line for line in lines[:first] if line.startswith("#SBATCH")]
    assert all(re.fullmatch(r"#SBATCH --[a-z-]+=?\S*", line) for line in options)


# -- flags ------------------------------------------------------------------------------------


def flags_of(platform: str) -> list[str]:
    return [
        line for line in sh([LAUNCH / "flags", platform]).stdout.split("\n") if line[:2] == "--"
    ]


@pytest.mark.parametrize("platform", ["tpu", "gpu"])
def test_each_flag_has_a_line_that_explains_it_and_the_page_has_both(platform):
    said = sh([LAUNCH / "flags", platform]).stdout
    assert len(flags_of(platform)) > 4
    assert re.fullmatch(r"(# \S.+\n--\S+=\S+\n)+", said)
    page = (ROOT / "docs" / "launch.md").read_text()
    assert "".join(f"    {line}\n" for line in said.splitlines()) in page


@pytest.mark.parametrize(("platform", "name"), [("tpu", "LIBTPU_INIT_ARGS"), ("gpu", "XLA_FLAGS")])
def test_flags_are_set_for_the_command_and_those_given_come_last(platform, name):
    done = sh(
        [LAUNCH / "flags", platform, "sh", "-c", f'echo "${name}"; exit 7'],
        env={"PATH": "/usr/bin:/bin", name: "--mine=1"},
    )
    assert done.returncode == 7
    assert done.stdout.split() == [*flags_of(platform), "--mine=1"]


def test_the_locked_xla_knows_the_gpu_flags():
    start = [LAUNCH / "flags", "gpu", sys.executable, "-c", "import jax; jax.devices()"]
    done = sh(start)
    assert done.returncode == 0, done.stderr
    wrong = sh(start, env=os.environ | {"XLA_FLAGS": "--xla_gpu_no_such_flag=1"})
    assert wrong.returncode != 0 and "xla_gpu_no_such_flag" in wrong.stderr


# the gradient of a scan over layers that are sharded as fsdp shards them; what XLA makes of it
COMPILE = """
import hashlib, re, sys
import jax, jax.numpy as jnp, numpy as np
from jax.experimental import topologies
from jax.sharding import Mesh, NamedSharding, PartitionSpec as P

def loss(w, x):
    layer = jax.checkpoint(lambda h, w: (jax.nn.relu(h @ w[0]) @ w[1], None))
    return (jax.lax.scan(layer, x, w)[0].astype(jnp.float32) ** 2).mean()

devices = topologies.get_topology_desc(platform="tpu", topology_name=sys.argv[1]).devices
mesh = Mesh(np.array(devices), ("fsdp",))
w, x = (NamedSharding(mesh, spec) for spec in (P(None, None, "fsdp"), P("fsdp")))
made = jax.jit(jax.grad(loss), in_shardings=(w, x), out_shardings=w).lower(
    jax.ShapeDtypeStruct((8, 2, 2048, 2048), jnp.bfloat16),
    jax.ShapeDtypeStruct((len(devices) * 1024, 2048), jnp.bfloat16),
)
text = re.sub(r"metadata=\\{[^}]*\\}", "", made.compile().as_text())
print(hashlib.sha256(text.encode()).hexdigest(), text.count("%async_collective_fusion"))
"""


@pytest.fixture
def compiled():
    """compiled(topology, flag, ..., wrapper=...): what a process that compiles for TPUs says."""
    pytest.importorskip("libtpu", reason="only libtpu knows its flags: pip install 'jax[tpu]'")
    alone = {"JAX_PLATFORMS": "cpu", "TPU_SKIP_MDS_QUERY": "1", "TPU_WORKER_ID": "0",
             "TPU_WORKER_HOSTNAMES": "localhost", "ALLOW_MULTIPLE_LIBTPU_LOAD": "true"}  # fmt: skip

    def call(topology, *flags, wrapper=(LAUNCH / "flags", "tpu")):
        env = os.environ | alone | {"LIBTPU_INIT_ARGS": " ".join(flags)}
        return sh([*wrapper, sys.executable, "-c", COMPILE, topology], env=env)

    return call


def test_libtpu_knows_the_tpu_flags(compiled):
    done = compiled("v5e:2x2")
    assert done.returncode == 0, done.stderr
    wrong = compiled("v5e:2x2", "--xla_no_such_flag=1")
    assert wrong.returncode != 0 and "xla_no_such_flag" in wrong.stdout + wrong.stderr


@pytest.mark.slow
def test_the_tpu_flags_make_all_gathers_of_v6e_run_inside_matrix_products(compiled):
    with_them, without = compiled("v6e:2x4"), compiled("v6e:2x4", wrapper=())
    assert with_them.returncode == without.returncode == 0, with_them.stderr + without.stderr
    assert int(with_them.stdout.split()[1]) > int(without.stdout.split()[1]) == 0


@pytest.mark.slow
def test_the_tpu_flags_are_what_libtpu_does_by_itself_for_v5e(compiled):
    with_them, without = compiled("v5e:4x4"), compiled("v5e:4x4", wrapper=())
    assert with_them.returncode == without.returncode == 0, with_them.stderr + without.stderr
    assert with_them.stdout == without.stdout
    for off in ("--xla_tpu_enable_latency_hiding_scheduler", "--xla_enable_async_all_gather"):
        assert compiled("v5e:4x4", f"{off}=false").stdout != without.stdout


# -- manifests --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("topology", "pods", "resource", "chips", "machine"),
    [
        ("v5e:4x4", 4, "google.com/tpu", 4, ("tpu-v5-lite-podslice", "4x4")),
        ("v5e:2x2", 1, "google.com/tpu", 4, ("tpu-v5-lite-podslice", "2x2")),
        ("v5e:1x1", 1, "google.com/tpu", 1, ("tpu-v5-lite-podslice", "1x1")),
        ("v6e:16x16", 64, "google.com/tpu", 4, ("tpu-v6e-slice", "16x16")),
        ("v6e:2x4", 2, "google.com/tpu", 4, ("tpu-v6e-slice", "2x4")),
        ("v5p:2x2x1", 1, "google.com/tpu", 4, ("tpu-v5p-slice", "2x2x1")),
        ("v5p:4x4x8", 32, "google.com/tpu", 4, ("tpu-v5p-slice", "4x4x8")),
        ("v4:2x2x2", 2, "google.com/tpu", 4, ("tpu-v4-podslice", "2x2x2")),
        ("h100:16", 2, "nvidia.com/gpu", 8, ("nvidia-h100-80gb",)),
        ("h200:8", 1, "nvidia.com/gpu", 8, ("nvidia-h200-141gb",)),
        ("a100:2", 1, "nvidia.com/gpu", 2, ("nvidia-a100-80gb",)),
    ],
)
def test_a_job_set_is_valid_and_has_the_pods_of_its_topology(
    rendered, topology, pods, resource, chips, machine
):
    manifest = rendered(topology)
    validate(manifest)
    job, container = job_of(manifest), container_of(manifest)
    assert (job["completions"], job["parallelism"], job["completionMode"]) == (
        pods,
        pods,
        "Indexed",
    )
    assert container["resources"]["limits"] == {resource: chips}
    assert tuple(job["template"]["spec"]["nodeSelector"].values()) == machine


def test_slices_are_replicas(rendered):
    manifest = rendered("v5e:4x4", "--slices=3", "--restarts=0")
    validate(manifest)
    assert manifest["spec"]["replicatedJobs"][0]["replicas"] == 3
    assert manifest["spec"]["failurePolicy"]["maxRestarts"] == 0


@pytest.mark.parametrize(
    ("flag", "said"),
    [
        ("--topology=v5e:4x4x4", "slices of v5e are 1x1, 2x2, 2x4, 4x4, "),
        ("--topology=v5e:2x3", "slices of v5e are 1x1, 2x2, 2x4, 4x4, "),
        ("--topology=v5e:4x2", "slices of v5e are 1x1, 2x2, 2x4, 4x4, "),
        ("--topology=v6e:32x32", "slices of v6e are 1x1, 2x2, 2x4, 4x4, "),
        ("--topology=v4:4x4", "slices of v4 are 2x2x1, 2x2x2, 2x2x4, "),
        ("--topology=v5p:2x2x8", "slices of v5p are 2x2x1, 2x2x2, 2x2x4, "),
        ("--topology=v5p:8x4x4", "multiples of 4, A <= B <= C"),
        ("--topology=v5p:16x16x28", "at most 6,144 chips"),
        ("--topology=h100:12", "12 GPUs: more than 8 must be a multiple of 8"),
        ("--topology=v9:4x4", "v5e:4x4, of v4, v5e, v5p, v6e, or h100:16"),
        ("--topology=v5e", "v5e:4x4, of v4, v5e, v5p, v6e, or h100:16"),
        ("--slices=0", "too few"),
        ("--name=SF2T", "at most 40 of a-z, 0-9 and -"),
        ("--name=" + "a" * 41, "at most 40 of a-z, 0-9 and -"),
    ],
)
def test_what_no_cluster_has_is_refused(gke, capsys, flag, said):
    given = ["--name=sf2t", "--image=IMAGE", "--topology=v5e:4x4", "--claim=shared", flag]
    assert gke.main([*given, *COMMAND]) == 2
    output = capsys.readouterr()
    assert output.out == "" and said in output.err


def test_slices_of_one_host_or_of_gpus_are_refused(gke, capsys):
    for topology in ("v5e:2x2", "h100:16"):
        given = ["--name=a", "--image=b", f"--topology={topology}", "--claim=c", "--slices=2"]
        assert gke.main([*given, *COMMAND]) == 2
        assert "only slices of several TPU hosts" in capsys.readouterr().err


@pytest.mark.parametrize(
    "mesh",
    [
        ["--config.mesh.fsdp=64"],
        ["-config.mesh.fsdp", "64"],
        ["--config.mesh.data=4", "--config.mesh.fsdp=2", "--config.mesh.fsdp=16"],
    ],
)
def test_a_mesh_of_more_devices_than_the_slices_have_is_refused(gke, rendered, capsys, mesh):
    command = ["python", "-m", "vjax.main", *mesh]
    given = ["--name=a", "--image=b", "--topology=v5e:4x4", "--claim=c", "--slices=3"]
    assert gke.main([*given, *command]) == 2
    output = capsys.readouterr()
    assert output.out == "" and "64 devices, and the machine has 48" in output.err
    rendered("v5e:4x4", "--slices=4", command=command)


def test_an_option_is_not_guessed_from_its_beginning(gke, capsys):
    given = ["--name=a", "--image=b", "--topology=h100:8", "--claim=c", "--restart=3"]
    with pytest.raises(SystemExit):
        gke.main([*given, "echo"])
    assert "unrecognized arguments: --restart=3" in capsys.readouterr().err


def test_a_wrong_field_a_wrong_value_and_an_unknown_kind_are_no_pass(rendered):
    manifest = rendered("v5e:4x4")
    with pytest.raises(LookupError, match="no schema for Jobset"):
        validate(manifest | {"kind": "Jobset"})
    manifest["spec"]["failurePolicy"]["maxRestart"] = 3
    with pytest.raises(jsonschema.ValidationError, match="maxRestart"):
        validate(manifest)
    manifest = rendered("v5e:4x4")
    container_of(manifest)["comand"] = ["sh"]
    with pytest.raises(kubernetes_validate.ValidationError, match="comand"):
        validate(manifest)
    manifest = rendered("v5e:4x4")
    job_of(manifest)["completions"] = "four"
    with pytest.raises(kubernetes_validate.ValidationError, match="four"):
        validate(manifest)


@pytest.mark.parametrize("topology", ["v5e:4x4", "h100:16"])
def test_a_pod_runs_the_command_as_it_was_given(rendered, repository, topology):
    container = container_of(rendered(topology, command=COMMAND))
    done = sh([*container["command"], *container["args"]], cwd=repository)
    assert done.stdout.splitlines()[: len(COMMAND)] == list(COMMAND), done.stderr


def test_kubernetes_expands_nothing_in_the_command(gke, capsys):
    given = ["--name=a", "--image=b", "--topology=h100:8", "--claim=c", "echo", "$(HOME) $5"]
    assert gke.main(given) == 0
    assert container_of(yaml.safe_load(capsys.readouterr().out))["args"] == ["echo", "$$(HOME) $5"]


def test_gpu_pods_meet_at_the_name_that_job_set_gives_the_first(rendered):
    manifest = rendered("h100:32")
    # JobSet: <jobset>-<replicated job>-<job>-<pod>.<subdomain>, which is the job set's name
    job_set, job = manifest["metadata"]["name"], manifest["spec"]["replicatedJobs"][0]["name"]
    env = {entry["name"]: entry for entry in container_of(manifest)["env"]}
    index = "metadata.annotations['batch.kubernetes.io/job-completion-index']"
    assert env["JAX_PROCESS_ID"]["valueFrom"]["fieldRef"]["fieldPath"] == index
    values = {name: entry["value"] for name, entry in env.items() if "value" in entry}
    for n in range(4):
        meeting = Meeting.of(values | {"JAX_PROCESS_ID": str(n)})
        assert meeting.coordinator == f"{job_set}-{job}-0-0.{job_set}:8476"
        assert (meeting.num_processes, meeting.process_id) == (4, n)


def test_every_yaml_here_has_a_test():
    assert {file.name for file in LAUNCH.glob("*.y*ml")} == {
        "gke_gpu.yaml", "gke_tpu.yaml", "skypilot.yaml"
    }  # fmt: skip


# -- SkyPilot ---------------------------------------------------------------------------------


@pytest.fixture
def task():
    return yaml.safe_load((LAUNCH / "skypilot.yaml").read_text())


def test_the_skypilot_task_has_documented_fields_only(task):
    schema = json.loads((SCHEMAS / "skypilot.json").read_text())
    jsonschema.validate(task, schema)
    for wrong in ({"node": 2}, {"num_nodes": "2"}, {"resources": {"gpus": "H100:8"}}):
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(task | wrong, schema)


@pytest.mark.parametrize("part", ["setup", "run"])
def test_shellcheck_has_nothing_to_say_of_the_skypilot_task(task, part):
    done = sh([SHELLCHECK, "--shell=bash", "-"], input=task[part])
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("rank", [0, 1])
def test_skypilot_nodes_of_gpus_meet_at_the_first(task, fakes, repository, rank):
    fakes("nvidia-smi", "#!/bin/sh\n")
    env = {"SKYPILOT_NODE_IPS": "10.0.0.4\n10.0.0.7", "SKYPILOT_NUM_NODES": "2",
           "SKYPILOT_NODE_RANK": str(rank), "ARGS": "--config=a.py --config.seed=1"}  # fmt: skip
    done = sh(["bash", "-c", task["run"]], cwd=repository, env=os.environ | env)
    *command, _ = said = done.stdout.splitlines()
    assert command[:5] == ["python", "-m", "vjax.main", "--config=a.py", "--config.seed=1"]
    found = dict(line.split("=", 1) for line in said if line.startswith(("JAX_", "XLA_")))
    meeting = Meeting.of(found)
    assert (meeting.coordinator, meeting.num_processes) == ("10.0.0.4:8476", 2)
    assert meeting.process_id == rank
    assert found["XLA_FLAGS"].split()[: len(flags_of("gpu"))] == flags_of("gpu")


def test_skypilot_hosts_of_tpus_are_left_to_find_each_other(task, fakes, repository):
    fakes("nvidia-smi", "#!/bin/sh\nexit 127\n")
    done = sh(["bash", "-c", task["run"]], cwd=repository, env=os.environ | task["envs"])
    said = done.stdout.splitlines()
    assert (
        said[:3] == ["python", "-m", "vjax.main"]
        and f"LIBTPU_INIT_ARGS={flags_of('tpu')[0]}" in done.stdout
    )
    assert not [line for line in said if line.startswith("JAX_")]


# -- TPU VMs ----------------------------------------------------------------------------------

# two hosts, whose homes are folders
GCLOUD = """#!/usr/bin/env bash
set -e
for word; do
  case "$word" in
    --worker=all) hosts="0 1" ;;
    --worker=*) hosts=${word#*=} ;;
    --command=*) command=${word#*=} ;;
    --zone=zone) zone=1 ;;
  esac
done
[ "$1 $2 $3 $zone" = "compute tpus tpu-vm 1" ]
for host in $hosts; do
  case "$4" in
    scp) cp "$5" "$HOSTS/$host/${6#pod:}" ;;
    ssh) [ "$5" = pod ]; (cd "$HOSTS/$host"; bash -c "$command") ;;
  esac
done
"""
# stays until it is told to stop
STAYS = """#!/usr/bin/env bash
printf "%s\\n" "$@" "$LIBTPU_INIT_ARGS" >said.new; mv said.new "said-$1"
[ "$1" = pip ] || { trap 'touch stopped; exit 2' TERM; while :; do sleep 0.05; done; }
"""


@pytest.fixture
def hosts(tmp_path, monkeypatch):
    """Where vjax goes on two hosts that have nothing yet."""
    folders = [tmp_path / "hosts" / name / "vjax" for name in "01"]
    for folder in folders:
        folder.parent.mkdir(parents=True)
    monkeypatch.setenv("HOSTS", str(tmp_path / "hosts"))
    return folders


@pytest.fixture
def pod(fakes, repository, hosts):
    """pod(word, ...): what launch/tpu_vm says of these hosts."""
    fakes("gcloud", GCLOUD)
    fakes("local", STAYS, repository / "launch")
    fakes("python3.11", "#!/bin/sh\n")
    for command in ("init -q", "add -A", "-c user.name=a -c user.email=a@b commit -qm all"):
        assert sh(["git", *command.split()], cwd=repository).returncode == 0
    return lambda *command: sh(["launch/tpu_vm", "pod", "zone", *command], cwd=repository)


def test_a_run_before_the_setup_says_so_and_leaves_nothing(pod, hosts):
    done = pod("run", *COMMAND)
    assert done.returncode == 1
    assert done.stderr == "no vjax here: launch/tpu_vm pod zone setup\n"
    assert not list(hosts[0].parent.iterdir())


def test_no_run_to_stop_is_an_error(pod, hosts):
    done = pod("stop")
    assert (done.returncode, done.stderr) == (1, "no run is going on\n")
    hosts[0].mkdir()
    ended = subprocess.Popen("true")
    ended.wait()
    (hosts[0] / "run.pid").write_text(f"{ended.pid}\n")
    done = pod("stop")
    assert (done.returncode, done.stderr) == (1, "no run is going on\n")


def test_a_tpu_pod_is_set_up_run_and_stopped_on_every_host(pod, hosts):
    def wait(name):
        wanted = " && ".join(f"[ -e {host / name} ]" for host in hosts)
        assert (
            sh(["timeout", "20", "bash", "-c", f"until {wanted}; do sleep 0.05; done"]).returncode
            == 0
        )

    done = pod("setup")
    assert done.returncode == 0, done.stderr
    for host in hosts:
        said = (host / "said-pip").read_text().splitlines()
        assert said[:5] == ["pip", "install", "-q", "-c", "launch/lock-py311.txt"]
        assert said[5] == "jax[tpu]" and (host / "launch" / "flags").exists()

    done = pod("run", *COMMAND)
    assert (done.returncode, done.stderr) == (0, "")
    wait("said-python")
    for host in hosts:
        said = (host / "said-python").read_text().splitlines()
        assert said == [*COMMAND, " ".join(flags_of("tpu"))]
    again = pod("run", *COMMAND)
    assert again.returncode != 0 and "a run is going on" in again.stderr

    assert pod("stop").returncode == 0
    wait("stopped")


# -- the page ---------------------------------------------------------------------------------


def commands(page: Path) -> list[str]:
    blocks = re.findall(r"^```\n(.*?)^```", page.read_text(), re.S | re.M)
    return [line for block in blocks for line in block.replace("\\\n", "").splitlines()]


def test_the_commands_of_the_page_run_and_ask_for_a_config_that_there_is(
    fakes, repository, monkeypatch
):
    for tool in ("sbatch", "gcloud", "kubectl", "docker", "sky"):
        fakes(tool, '#!/bin/sh\n[ "$1" != apply ] || cat >manifest\nprintf "%s\\n" "$@" >>asked\n')
    sh(["git", "init", "-q"], cwd=repository)
    sh(["git", "-c", "user.name=a", "-c", "user.email=a@b", "commit", "-qm", "a", "--allow-empty"],
       cwd=repository)  # fmt: skip
    monkeypatch.chdir(ROOT)
    found = commands(ROOT / "docs" / "launch.md")
    assert len(found) > 15
    configs = manifests = 0
    for command in found:
        done = sh(["bash", "-o", "pipefail", "-c", command], cwd=repository)
        assert done.returncode == 0, (command, done.stderr)
        words = shlex.split(command.partition(" | ")[0])
        assert all((ROOT / word).exists() for word in words if word.startswith("launch/"))
        words = [part for word in words for part in word.removeprefix("ARGS=").split()]
        given = [word for word in words if re.match(r"--(config|workdir)\b", word)]
        if given:
            run = main.parse(["vjax", *given])
            assert run.config.mesh.fsdp > 1
            configs += 1
        if (manifest := repository / "manifest").exists():
            validate(yaml.safe_load(manifest.read_text()))
            manifest.unlink()
            manifests += 1
    assert (configs, manifests) == (8, 3)
