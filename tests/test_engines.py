"""Engines that are not there, or would lose results: one line, before anything starts."""

import socket
from pathlib import Path

import pytest
from omegaconf import OmegaConf

from bnlab import engines, sweep
from bnlab.compose import compose, config_folder
from bnlab.engines import Engine, file_system
from bnlab.settings import SettingsError

SLURM, RAY = "hydra/launcher=submitit_slurm", "hydra/launcher=ray"
ELSEWHERE = ["track.uri=http://127.0.0.1:9", "device=cpu"]


@pytest.fixture
def refused(tmp_path, monkeypatch):
    """The line with which a command is refused; a store on a disk, engines installed."""
    monkeypatch.setattr(engines, "find_spec", lambda name: object())
    monkeypatch.setattr(engines, "file_system", lambda folder: "nfs4")

    def refused(*arguments):
        command = compose(["-m", "seed=0,1", f"store={tmp_path}", *arguments])
        with pytest.raises(SettingsError) as error:
            engines.check(command.engine, command.settings[0])
        return str(error.value)

    return refused


@pytest.fixture
def sbatch(monkeypatch):
    monkeypatch.setattr("shutil.which", lambda name: f"/usr/bin/{name}")


@pytest.mark.parametrize("path", sorted((config_folder() / "hydra" / "launcher").glob("*.yaml")), ids=str)
def test_a_ready_made_launcher_composes_without_its_plugin(path):
    engine = compose(["-m", f"hydra/launcher={path.stem}", "seed=0,1", "train.threads=3"]).engine
    assert engine.choice == path.stem
    assert engine.config == OmegaConf.to_container(OmegaConf.create(engine.config), resolve=True)
    cores = (
        engine.config["ray"]["remote"]["num_cpus"] if path.stem == "ray" else engine.config["cpus_per_task"]
    )
    assert cores == 3


@pytest.mark.parametrize("name", ["submitit_local", "submitit_slurm"])
def test_a_ready_made_launcher_has_every_key_of_its_plugin(name):
    config = pytest.importorskip("hydra_plugins.hydra_submitit_launcher.config", reason="no submitit here")
    plugin = {"submitit_local": config.LocalQueueConf, "submitit_slurm": config.SlurmQueueConf}[name]
    own = OmegaConf.load(config_folder() / "hydra" / "launcher" / f"{name}.yaml")
    assert set(own) == set(OmegaConf.structured(plugin))


@pytest.mark.parametrize(
    ("launcher", "key", "value", "least"),
    [
        (RAY, "ray.remote.num_cpus", "-3", 0),
        (RAY, "ray.init.num_cpus", "two", 1),
        (RAY, "ray.init.num_cpus", "0", 1),
        (RAY, "ray.remote.memory", "true", 1),
        ("hydra/launcher=submitit_local", "cpus_per_task", "0", 1),
        ("hydra/launcher=submitit_local", "timeout_min", "-1", 1),
    ],
)
def test_resources_that_no_engine_has(refused, launcher, key, value, least):
    got = {"true": "True"}.get(value, value)
    said = refused(launcher, f"hydra.launcher.{key}={value}")
    assert said == f"hydra.launcher.{key} must be a number, {least} at least, got {got}"


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        (
            "ray.remote.num_cpus=5",
            "num_cpus must not exceed the 4 cores of a cluster on this machine, got 5; ",
        ),
        (
            "ray.remote.num_gpus=2",
            "num_gpus must not exceed the GPUs of this machine, of which there are 1, got 2",
        ),
    ],
)
def test_more_than_a_cluster_of_this_machine_has(refused, monkeypatch, asked, said):
    monkeypatch.setattr("bnlab.machine.cores", lambda: 4)
    monkeypatch.setattr("bnlab.machine.gpus", lambda: 1)
    assert refused(RAY, f"hydra.launcher.{asked}").startswith(f"hydra.launcher.ray.remote.{said}")


def test_a_cluster_of_as_many_cores_as_it_is_given(monkeypatch, tmp_path):
    monkeypatch.setattr(engines, "find_spec", lambda name: object())
    monkeypatch.setattr("bnlab.machine.cores", lambda: 4)
    given = ["hydra.launcher.ray.init.num_cpus=8", "hydra.launcher.ray.remote.num_cpus=5"]
    command = compose(["-m", "seed=0,1", f"store={tmp_path}", RAY, *given])
    engines.check(command.engine, command.settings[0])


def test_hydras_own_launchers_need_nothing():
    for choice in ("basic", "joblib"):
        command = compose(["-m", f"hydra/launcher={choice}", "seed=0,1"])
        assert (command.engine.choice, command.engine.elsewhere) == (choice, False)
        engines.check(command.engine, command.settings[0])


def test_one_job_needs_no_engine():
    assert compose(["seed=0", SLURM]).engine == Engine()


@pytest.mark.parametrize(
    ("launcher", "extra"), [("ray", "ray"), ("submitit_local", "slurm"), ("submitit_slurm", "slurm")]
)
def test_what_is_not_installed_is_named_with_its_pip_line(launcher, extra, monkeypatch, capsys):
    monkeypatch.setattr(engines, "find_spec", lambda name: None)
    assert sweep.run(["-m", "seed=0,1", f"hydra/launcher={launcher}"]) == 2
    assert capsys.readouterr() == (
        "",
        f"bnlab: hydra/launcher={launcher} is not installed; pip install 'bnlab[{extra}]'\n",
    )


def test_slurm_needs_sbatch(refused, monkeypatch):
    monkeypatch.setenv("PATH", "")
    assert refused(SLURM, *ELSEWHERE) == (
        "hydra/launcher=submitit_slurm needs Slurm's sbatch, and none is on the PATH; run it where jobs are "
        "submitted, or take hydra/launcher=joblib"
    )


def test_sqlite_is_refused_where_several_hosts_train(refused, sbatch, tmp_path):
    assert refused(SLURM, "device=cpu") == (
        f"hydra/launcher=submitit_slurm cannot go with sqlite:///{tmp_path}/mlflow.db: on a file system that "
        "several hosts write to, SQLite's locks do not hold; give track.uri=http://HOST:PORT of an MLflow "
        "server"
    )


def test_a_store_in_memory_is_refused_where_several_hosts_train(refused, sbatch, tmp_path, monkeypatch):
    monkeypatch.setattr(engines, "file_system", lambda folder: "tmpfs")
    assert refused(SLURM, *ELSEWHERE) == (
        f"store={tmp_path} lies on tmpfs, which other hosts do not see, and hydra/launcher=submitit_slurm "
        "runs trials on them; give store=FOLDER on a shared file system"
    )


def test_the_device_is_named_where_several_hosts_train(refused, sbatch):
    assert "give device=cpu or device=gpu" in refused(SLURM, ELSEWHERE[0])


def test_another_hosts_gpu_need_not_be_here(sbatch, monkeypatch, tmp_path):
    monkeypatch.setattr("bnlab.machine.gpus", lambda: 0)
    settings = compose(["-m", "seed=0,1", f"store={tmp_path}", "device=gpu"]).settings
    jobs = sweep.prepared(settings, elsewhere=True)
    assert {job.trial.device for job in jobs} == {"gpu"}
    with pytest.raises(SettingsError, match="device=gpu needs a GPU"):
        sweep.prepared(settings)


def test_a_cluster_that_does_not_answer_is_refused(refused):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    assert refused(RAY, f"hydra.launcher.ray.init.address={address}") == (
        f"hydra.launcher.ray.init.address={address} cannot be reached: Connection refused; start the cluster "
        "(ray start --head), or mend the address"
    )


@pytest.mark.parametrize("address", ["here", "host:", ":6379", "host:port"])
def test_what_is_no_address_is_refused(refused, address):
    said = refused(RAY, f"'hydra.launcher.ray.init.address=\"{address}\"'".strip("'"))
    assert said == f"hydra.launcher.ray.init.address={address} must be local, auto or HOST:PORT"


@pytest.mark.parametrize("address", ["auto", "null"])
def test_a_cluster_that_should_run_here_is_looked_for(refused, address, monkeypatch, tmp_path):
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(engines, "_CURRENT", tmp_path / "none")
    assert "no Ray cluster runs here" in refused(RAY, f"hydra.launcher.ray.init.address={address}")


def test_a_cluster_that_answers_is_one_of_several_hosts(refused):
    with socket.create_server(("127.0.0.1", 0)) as head:
        address = f"hydra.launcher.ray.init.address=127.0.0.1:{head.getsockname()[1]}"
        assert refused(RAY, address, "device=cpu").startswith("hydra/launcher=ray cannot go with sqlite:")


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            "AuthenticationError: RPC error: InvalidAuthToken: Authentication token is missing",
            " asks for a token, and was given none or a wrong one; set RAY_AUTH_MODE=token and the "
            "RAY_AUTH_TOKEN that the cluster was started with",
        ),
        (
            "RpcError: it is stopping",
            " cannot be joined: it is stopping; start the cluster anew, or mend the address",
        ),
        (
            None,
            " answers, but not as the head of a Ray cluster does; give the HOST:PORT that "
            "`ray start --head` named",
        ),
    ],
)
def test_what_would_not_have_this_command_is_refused(answer, said, refused, monkeypatch):
    ends = f"import sys; sys.exit('a notice\\n{answer}')" if answer else "import time; time.sleep(60)"
    monkeypatch.setattr(engines, "_JOIN", ends)
    if answer is None:
        monkeypatch.setattr(engines, "_ANSWER_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as head:
        address = f"hydra.launcher.ray.init.address=127.0.0.1:{head.getsockname()[1]}"
        assert refused(RAY, address, *ELSEWHERE) == address + said


@pytest.mark.parametrize("answer", ["ImportError: no such name", ""])
def test_another_rays_inner_name_refuses_no_cluster(answer, monkeypatch):
    monkeypatch.setattr(engines, "_JOIN", f"import sys; sys.exit({answer!r})")
    engines._join("127.0.0.1:6379")


def test_a_cluster_of_its_own_may_write_to_sqlite(monkeypatch):
    monkeypatch.setattr(engines, "find_spec", lambda name: object())
    command = compose(["-m", "seed=0,1", RAY])
    assert not command.engine.elsewhere
    engines.check(command.engine, command.settings[0])


def test_the_file_system_is_that_of_the_nearest_mount(tmp_path):
    mounts = tmp_path / "mounts"
    mounts.write_text("d / ext4 rw 0 0\nt /nowhere tmpfs rw 0 0\nh:/s /nowhere/shared nfs4 rw 0 0\n")
    kinds = [file_system(Path(own), mounts) for own in ("/none/x", "/nowhere/x", "/nowhere/shared/runs")]
    assert kinds == ["ext4", "tmpfs", "nfs4"]
    assert file_system(tmp_path, tmp_path / "none") == ""
