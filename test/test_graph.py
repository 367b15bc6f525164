"""The simulation's arguments and nodes, and the two runners that read them."""

from dataclasses import fields
import importlib.util
from pathlib import Path
import re
import select
import signal
import subprocess
import sys
import types

import numpy as np
import pytest

from worldfm_ros.cli.sim import command, describe_arguments
from worldfm_ros.nodes import graph
from worldfm_ros.nodes.arguments import SimulationArguments, as_text, parse_arguments
from worldfm_ros.nodes.graph import parameters_of, read_parameter_file, simulation_graph
from worldfm_ros.world.anchors import AnchorMap
from worldfm_ros.world.storage import World, write_world

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def empty_folder(tmp_path, monkeypatch):
    """No bag of the developer's lies in the way."""
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def world(tmp_path):
    write_world(
        World("dot", AnchorMap.from_points(np.zeros((1, 3)), np.zeros((1, 3), np.uint8)), [], 0.1), tmp_path / "w"
    )
    return tmp_path / "w"


def test_arguments_are_typed():
    arguments, given = parse_arguments(["width:=640", "rate:=5", "record:=True", "bag:=b1", "namespace:=front/camera"])
    assert (arguments.width, arguments.rate, arguments.record, arguments.namespace) == (640, 5.0, True, "front/camera")
    assert isinstance(arguments.rate, float) and given == {"width", "rate", "record", "bag", "namespace"}


@pytest.mark.parametrize(
    "word, message",
    [
        ("widht:=3", "there is no argument 'widht'; did you mean 'width'?.*world, model, width"),
        ("zebra:=3", "there is no argument 'zebra'; The arguments"),
        ("width", "expected name:=value, got 'width'"),
        ("width:=0", "image width is between 1 and 8192 pixels, got 0"),
        ("height:=-4", "image height is between 1 and 8192 pixels, got -4"),
        ("width:=1000000000", "image width is between 1 and 8192 pixels"),
        ("width:=3.5", "width is a whole number, got '3.5'"),
        ("hfov:=180", "between 0 and 180 degrees, got 180"),
        ("rate:=0", "rate is above 0"),
        ("rate:=nan", "rate is above 0"),
        ("duration:=-1", "duration is 0"),
        ("record:=maybe", "record is true or false, got 'maybe'"),
        ("bag:=b", "add record:=true"),
        ("trajectory:=/nowhere/poses.txt", "trajectory /nowhere/poses.txt does not exist"),
        ("params_file:=/nowhere.yaml", "params_file /nowhere.yaml does not exist"),
        ("namespace:=bad name", "namespace is one or more names .*; got 'bad name'"),
        ("namespace:=a//b", "namespace is one or more names"),
        ("namespace:=a/2b", "namespace is one or more names"),
        ("namespace:=früh", "namespace is one or more names"),
        ("port:=65536", "port is from 0 to 65535, got 65536"),
        ("lockstep:=maybe", "lockstep is true, false or auto, got 'maybe'"),
        ("real_time_factor:=-1", "real_time_factor is from 0"),
        ("tf_timeout:=nan", "tf_timeout is from 0 to 60 seconds, got nan"),
        ("camera_frame:=", "camera_frame is the TF frame of the camera"),
    ],
)
def test_bad_arguments_say_what_to_do(word, message):
    with pytest.raises(ValueError, match=message):
        parse_arguments([word])


@pytest.mark.parametrize("written, meant", [("/camera", "camera"), ("front/eye/", "front/eye"), ("", ""), ("/", "")])
def test_a_namespace_may_be_written_as_ros_does(world, written, meant):
    arguments = SimulationArguments(world=str(world), namespace=written, record=True)
    assert arguments.namespace == meant
    camera, recorder = simulation_graph(arguments)[:2]
    assert f"__ns:=/{meant}" in command(camera)
    assert not any("//" in topic for topic in recorder.parameters["topics"])


def test_paths_may_begin_at_home(world, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    camera = simulation_graph(*parse_arguments(["world:=~/w", "model:=anchors"]))[0]
    assert camera.parameters["world"] == str(world)
    with pytest.raises(ValueError, match=f"no model '{tmp_path}/nets/mine'"):
        simulation_graph(*parse_arguments(["world:=~/w", "model:=~/nets/mine"]))


def test_a_model_is_looked_for_before_the_world_is_built(tmp_path, monkeypatch):
    monkeypatch.setattr(graph, "world_folder", lambda name: pytest.fail("the world was built"))
    with pytest.raises(ValueError, match="no model 'dalle'"):
        simulation_graph(*parse_arguments(["model:=dalle"]))
    (tmp_path / "p.yaml").write_text("/camera/frame_camera: {ros__parameters: {model: imagen}}")
    with pytest.raises(ValueError, match="no model 'imagen'"):
        simulation_graph(*parse_arguments([f"params_file:={tmp_path}/p.yaml"]))


def test_a_folder_of_the_demo_worlds_name_that_is_no_world_is_not_taken_for_it(world, tmp_path, monkeypatch):
    monkeypatch.setattr("worldfm_ros.world.builders.demo.demo_world", lambda track: tmp_path / "demo")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "apartment").mkdir()  # pictures of it, say
    assert graph.world_folder("apartment") == tmp_path / "demo"
    (tmp_path / "apartment").rmdir()
    (tmp_path / "apartment").symlink_to(world)
    assert graph.world_folder("apartment") == world.resolve()


def test_the_port_is_the_viewers(world):
    viewer = simulation_graph(*parse_arguments([f"world:={world}", "port:=9000"]))[1]
    assert viewer.executable == "viewer" and viewer.parameters["port"] == 9000


def test_a_bag_is_never_overwritten(tmp_path):
    with pytest.raises(ValueError, match="exists and is never overwritten"):
        parse_arguments(["record:=true", f"bag:={tmp_path}"])


def test_a_bad_trajectory_is_refused_before_anything_starts(tmp_path):
    (tmp_path / "poses.txt").write_text("0 0 0 0 0 0 0 2")
    with pytest.raises(ValueError, match="poses.txt.*(:1|no poses)"):
        parse_arguments([f"trajectory:={tmp_path}/poses.txt"])


def test_a_missing_world_is_refused_before_anything_starts():
    with pytest.raises(ValueError, match="there is no world folder 'atlantis'"):
        simulation_graph(SimulationArguments(world="atlantis"))


def test_the_graph_has_the_nodes_that_were_asked_for(world):
    def names(**arguments):
        return [node.executable for node in simulation_graph(SimulationArguments(world=str(world), **arguments))]

    assert names() == ["frame_camera", "viewer", "demo_robot"]
    assert names(viewer=False) == ["frame_camera", "demo_robot"]
    assert names(record=True, bag="b") == ["frame_camera", "bag_recorder", "viewer", "demo_robot"]


def test_a_drive_without_a_camera_records_where_the_robot_was(world):
    arguments = SimulationArguments(world=str(world), camera="false", record=True, bag="drive", model="not there")
    nodes = {node.executable: node for node in simulation_graph(arguments)}
    assert set(nodes) == {"bag_recorder", "demo_robot"} and not arguments.in_lockstep
    assert [topic.split()[0] for topic in nodes["bag_recorder"].parameters["topics"]] == ["odom", "/tf_static", "/tf"]
    for what in ({"lockstep": "true"}, {"objects": "demo"}, {"rig": "rig.yaml"}):
        with pytest.raises(ValueError, match="camera:=false has nothing to do with"):
            SimulationArguments(camera="false", **what)


def test_all_nodes_speak_of_the_worlds_frame(tmp_path):
    write_world(World("yard", AnchorMap(), [], 0.1, frame_id="site"), tmp_path / "yard")
    nodes = simulation_graph(*parse_arguments([f"world:={tmp_path / 'yard'}", "model:=anchors"]))
    assert {node.executable: node.parameters["map_frame"] for node in nodes} == dict.fromkeys(
        ("frame_camera", "viewer", "demo_robot"), "site")


def parameters_of_module(name):
    """The dataclass of a node's parameters: the one that its module declares last."""
    *_, parameters = (cls for cls in vars(importlib.import_module(name)).values()
                      if isinstance(cls, type) and cls.__name__.endswith("Parameters"))
    return parameters


def test_every_node_exists_and_declares_its_parameters(world):
    pytest.importorskip("rclpy")
    arguments, given = parse_arguments([f"world:={world}", "record:=true", "bag:=b", "width:=64", "seed:=3"])
    for node in simulation_graph(arguments, given):
        declared = {f.name for f in fields(parameters_of_module(node.module))}
        assert set(node.parameters) <= declared | {"use_sim_time"}, node.executable


PARAMETERS = """
/**: {ros__parameters: {tf_timeout: 0.7, height: 50}}
/camera/frame_camera: {ros__parameters: {width: 200, qos_overrides: {/camera/image_raw: {publisher: {depth: 5}}}}}
/**/demo_robot: {ros__parameters: {camera_height: 0.5}}
/*/viewer: {ros__parameters: {port: 1}}
viewer: {ros__parameters: {port: 2}}
"""


def test_parameter_files_are_matched_as_ros_does(tmp_path):
    file = tmp_path / "p.yaml"
    file.write_text(PARAMETERS)
    blocks = read_parameter_file(file)
    everywhere = {"tf_timeout": 0.7, "height": 50}
    assert parameters_of("/other/node", blocks) == everywhere
    assert parameters_of("/demo_robot", blocks) == everywhere | {"camera_height": 0.5}
    assert parameters_of("/a/b/demo_robot", blocks) == everywhere | {"camera_height": 0.5}
    assert parameters_of("/viewer", blocks) == everywhere | {"port": 2}
    camera = {"width": 200, "qos_overrides./camera/image_raw.publisher.depth": 5}
    assert parameters_of("/camera/frame_camera", blocks) == everywhere | camera
    file.write_text("width: 3")
    with pytest.raises(ValueError, match="is no ROS parameter file"):
        read_parameter_file(file)


def test_keys_of_no_node_are_named(world, tmp_path, capsys):
    keys = ("frame_camera", "/camera/camera", "/**", "camera/frame_camera", "/viewer", "/*", "bag_recorder")
    (tmp_path / "p.yaml").write_text("\n".join(f"{key}: {{ros__parameters: {{}}}}" for key in keys))
    simulation_graph(*parse_arguments([f"world:={world}", f"params_file:={tmp_path}/p.yaml", "viewer:=false"]))
    lines = capsys.readouterr().err.splitlines()
    assert [line.split("'")[1] for line in lines] == ["frame_camera", "/camera/camera"]
    assert all(line.startswith(f"warning: {tmp_path}/p.yaml: ") for line in lines)
    assert "none of the nodes /camera/frame_camera, /camera/camera_rig, /bag_recorder, /viewer, /demo_robot" in lines[0]


def test_the_command_line_beats_the_params_file_beats_the_defaults(world, tmp_path):
    (tmp_path / "p.yaml").write_text(PARAMETERS)
    words = [f"world:={world}", "width:=320", f"params_file:={tmp_path}/p.yaml"]
    camera = simulation_graph(*parse_arguments(words))[0].parameters
    assert (camera["width"], camera["height"], camera["rate"], camera["tf_timeout"]) == (320, 50, 10.0, 0.7)
    assert "width:=320" in command(simulation_graph(*parse_arguments(words))[0])


def test_help_lists_every_argument():
    assert "record:=false " in describe_arguments(), "as it is typed"
    assert [line.split(":=")[0].strip() for line in describe_arguments().splitlines()] == [
        f.name for f in fields(SimulationArguments)
    ]


# ---- `worldfm sim` stops its nodes


RUN = """
import sys
from worldfm_ros.cli import sim
from worldfm_ros.nodes.graph import NodeSpec
codes = dict(zip("ab", sys.argv[1:]))
sim.STOP_SECONDS = 3600
sim.command = lambda node: [sys.executable, "-c", codes[node.executable]]
sys.exit(sim.run([NodeSpec(name) for name in codes]))
"""
STOPPABLE = """
import signal, time
signal.signal(signal.SIGINT, signal.SIG_DFL)  # as while Python shuts down
signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGINT])
print("runs", flush=True)
time.sleep(600)
"""
STUBBORN = "import time; print('runs', flush=True); time.sleep(600)"  # SIGINT stays blocked, as `worldfm sim` starts it


def run_nodes(*codes):
    command = [sys.executable, "-c", RUN, *codes]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def test_only_the_node_that_failed_is_named():
    process = run_nodes(STOPPABLE, "import sys; sys.exit(7)")
    _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (7, "error: b ended with exit code 7\n")


def test_a_node_that_fails_while_it_stops_is_named():
    failing = STOPPABLE.replace("signal.SIG_DFL", "lambda *_: sys.exit(3)").replace("import", "import sys,")
    process = run_nodes(STOPPABLE, failing)
    for _ in range(2):
        process.stdout.readline()
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert (process.returncode, errors) == (3, "error: b ended with exit code 3\n")


def test_a_second_ctrl_c_kills_what_does_not_stop():
    process = run_nodes(STOPPABLE, STUBBORN)
    for _ in range(2):
        process.stdout.readline()
    while not select.select([process.stderr], [], [], 1.0)[0]:  # the first ones may count as one
        process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=120)
    assert process.returncode == 128 + signal.SIGKILL
    assert errors.splitlines()[0] == "error: b did not stop when asked again; killed"


def recorder(name):
    """A stand-in for a launch action: remembers how it was made."""
    return type(name, (), {"__init__": lambda self, *args, **kwargs: self.__dict__.update(args=args, **kwargs)})


@pytest.fixture
def sim_launch(monkeypatch):
    """launch/sim.launch.py over stand-ins for the launch packages, which have no wheels."""
    for name, members in {
        "launch": ["LaunchContext", "LaunchDescription"],
        "launch_ros": [],
        "launch.actions": ["DeclareLaunchArgument", "LogInfo", "OpaqueFunction", "RegisterEventHandler",
                           "SetEnvironmentVariable", "Shutdown"],
        "launch.event_handlers": ["OnProcessExit"],
        "launch_ros.actions": ["Node"],
    }.items():
        module = types.ModuleType(name)
        vars(module).update({member: recorder(member) for member in members})
        monkeypatch.setitem(sys.modules, name, module)
    monkeypatch.delitem(sys.modules, "worldfm_ros.nodes.launching", raising=False)
    spec = importlib.util.spec_from_file_location("sim_launch", ROOT / "launch" / "sim.launch.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def start(launch_file, context):
    """What the launch file's function makes of the arguments' values: the handler of ends, and the nodes."""
    (function,) = (a for a in launch_file.generate_launch_description().args[0] if type(a).__name__ == "OpaqueFunction")
    return function.function(context)


def test_the_launch_file_runs_the_same_graph(sim_launch, world, tmp_path):
    description = sim_launch.generate_launch_description()
    declared = {a.args[0]: a.default_value for a in description.args[0] if type(a).__name__ == "DeclareLaunchArgument"}
    assert declared == {f.name: as_text(f.default) for f in fields(SimulationArguments)}
    assert (declared["record"], declared["rate"], declared["port"]) == ("false", "10.0", "8080")
    (tmp_path / "user.yaml").write_text(PARAMETERS)
    chosen = {"world": str(world), "rate": "5.0", "record": "true", "bag": "b", "params_file": f"{tmp_path}/user.yaml"}
    context = types.SimpleNamespace(launch_configurations=declared | chosen, argv=["width:=320"])
    handler, *nodes = start(sim_launch, context)
    assert [node.executable for node in nodes] == ["frame_camera", "bag_recorder", "viewer", "demo_robot"]
    assert nodes[0].namespace == "camera" and nodes[0].respawn
    assert not hasattr(nodes[1], "respawn") and not hasattr(nodes[3], "respawn"), "a bag, and time, begin once"
    camera = nodes[0].parameters[0]
    assert camera["width"] == 320, "typed on the command line, although it is the default"
    assert (camera["rate"], camera["height"], camera["world"]) == (5.0, 50, str(world))


@pytest.fixture
def launched(sim_launch, world):
    """on_exit of the launch file's event handler, and the nodes by name."""
    declared = {f.name: as_text(f.default) for f in fields(SimulationArguments)}
    chosen = {"world": str(world), "record": "true", "bag": "b", "model": "anchors"}
    context = types.SimpleNamespace(launch_configurations=declared | chosen, argv=[])
    handler, *nodes = start(sim_launch, context)
    (on_process_exit,) = handler.args
    return on_process_exit.on_exit, {node.executable: node for node in nodes}


@pytest.mark.parametrize("node, code, shutting_down, outcome", [
    ("demo_robot", 2, False, "demo_robot-1 ended with exit code 2"),
    ("bag_recorder", 3, True, "bag_recorder-1 ended with exit code 3"),
    ("bag_recorder", -signal.SIGKILL, False, "bag_recorder-1 was killed by signal 9"),
    ("frame_camera", -signal.SIGTERM, False, "frame_camera-1 was killed by signal 15"),
    ("frame_camera", -signal.SIGKILL, True, "frame_camera-1 was killed by signal 9"),
    ("frame_camera", -signal.SIGKILL, False, "LogInfo"),
    ("frame_camera", 2, False, "frame_camera-1 ended with exit code 2"),
    ("frame_camera", -signal.SIGINT, True, None),
    ("demo_robot", 0, False, "Shutdown"),
    ("demo_robot", 0, True, None),
    ("viewer", 2, False, None),
])
def test_a_launch_fails_when_a_node_does(launched, node, code, shutting_down, outcome):
    on_exit, nodes = launched
    event = types.SimpleNamespace(action=nodes[node], returncode=code, process_name=f"{node}-1")
    context = types.SimpleNamespace(is_shutdown=shutting_down)
    if outcome and "-1 " in outcome:
        with pytest.raises(RuntimeError, match=outcome):
            on_exit(event, context)
    else:
        actions = on_exit(event, context)
        assert (actions and type(actions[0]).__name__) == outcome


def test_a_camera_that_is_killed_again_and_again_ends_the_launch(launched):
    on_exit, nodes = launched
    event = types.SimpleNamespace(action=nodes["frame_camera"], returncode=-signal.SIGSEGV, process_name="c-1")
    context = types.SimpleNamespace(is_shutdown=False)
    for _ in range(graph.RESTARTS):
        assert on_exit(event, context)
    with pytest.raises(RuntimeError, match="c-1 was killed by signal 11"):
        on_exit(event, context)


def test_a_simulation_goes_on_with_a_camera_that_was_killed(tmp_path):
    """`worldfm sim` starts it again; it ends in order the second time, and with that the simulation."""
    code = f"""
import os, pathlib, signal
seen = pathlib.Path({str(tmp_path / "seen")!r})
if seen.exists():
    os._exit(0)
seen.touch()
os.kill(os.getpid(), signal.SIGKILL)
"""
    script = RUN.replace("NodeSpec(name)", 'NodeSpec(name, respawns=name == "a")')
    command = [sys.executable, "-c", script, code, STOPPABLE]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120)
    assert result.returncode == 0, result.stderr
    assert result.stderr == "warning: a was killed by signal 9; it is started again, 1 of 3 times\n"


def test_robots_that_share_a_domain_share_no_names(world):
    words = [f"world:={world}", "record:=true", "bag:=b", "robot:=r2", "tf_prefix:=r2/"]
    nodes = {n.executable: n for n in simulation_graph(*parse_arguments(words))}
    assert [n.namespace for n in nodes.values()] == ["r2/camera", "r2", "r2", "r2"]
    words = command(nodes["frame_camera"])
    for name in ("/tf", "/tf_static", "/clock", "/lockstep/step", "/lockstep/done"):
        assert f"{name}:=/r2{name}" in words
    assert nodes["frame_camera"].parameters["camera_frame"] == "r2/camera_optical_frame"
    robot = nodes["demo_robot"].parameters
    assert (robot["camera_frame"], robot["frame_prefix"]) == ("r2/camera_optical_frame", "r2/")
    assert robot["wait_for"] == ["camera/frame_camera", "bag_recorder"], "relative: in the robot's namespace"


def test_a_launch_leaves_other_peoples_processes_alone(launched):
    event = types.SimpleNamespace(action=object(), returncode=1, process_name="rviz2-7")
    assert launched[0](event, types.SimpleNamespace(is_shutdown=False)) is None


def test_misspelt_launch_arguments_are_refused_and_foreign_ones_named(sim_launch, world, capsys, monkeypatch):
    declared = {f.name: as_text(f.default) for f in fields(SimulationArguments)} | {"world": str(world)}
    with pytest.raises(ValueError, match="no argument 'wdith'; did you mean 'width'"):
        start(sim_launch, types.SimpleNamespace(launch_configurations=declared, argv=["wdith:=3"]))
    foreign = types.SimpleNamespace(launch_configurations=declared, argv=["urdf_xacro:=x.urdf"])
    start(sim_launch, foreign)
    assert "sim.launch.py has no argument 'urdf_xacro'" in capsys.readouterr().err
    monkeypatch.setattr(sys, "argv", ["ros2", "launch", "worldfm_ros", "sim.launch.py", "urdf_xacro:=x.urdf"])
    with pytest.raises(ValueError, match="no argument 'urdf_xacro'; The arguments: world"):
        start(sim_launch, foreign)


@pytest.mark.parametrize("words, expected", [
    ([], False), (["record:=true"], True), (["record:=true", "lockstep:=false"], False), (["lockstep:=true"], True),
    (["record:=true", "use_sim_time:=true"], False), (["lockstep:=0", "record:=true"], False),
])
def test_recording_is_in_lockstep_where_the_clock_is_ours(world, words, expected):
    nodes = {n.executable: n.parameters for n in simulation_graph(*parse_arguments([f"world:={world}", *words]))}
    assert nodes["demo_robot"]["lockstep"] == nodes["frame_camera"]["lockstep"] == expected
    assert nodes["frame_camera"]["use_sim_time"] == (expected or "use_sim_time:=true" in words)
    assert nodes["demo_robot"]["use_sim_time"] == ("use_sim_time:=true" in words), "in lockstep it makes the time"
    if "record:=true" in words:
        assert nodes["bag_recorder"]["lockstep"] == expected
        assert nodes["bag_recorder"]["wait_for"] == ["camera/frame_camera", "demo_robot"]


def test_all_names_move_with_a_namespace_around_them(world):
    """Nothing but TF and the clock is named absolutely, so that a pushed namespace reaches recorder and viewer too."""
    nodes = simulation_graph(*parse_arguments([f"world:={world}", "record:=true", "bag:=b", "namespace:=front/eye"]))
    _, recorder, viewer, robot = (node.parameters for node in nodes)
    assert viewer["image"] == "front/eye/image_raw"
    names = {topic.split()[0] for topic in recorder["topics"]}
    assert {name for name in names if name.startswith("/")} == {"/tf", "/tf_static"}
    assert "front/eye/image_raw" in names and "odom" in names
    assert robot["wait_for"] == ["front/eye/frame_camera", "bag_recorder"]


def test_every_new_argument_reaches_its_node(world):
    words = [f"world:={world}", "camera_frame:=eye", "map_frame:=site", "preset:=fast", "tf_timeout:=2",
             "always_on:=true", "host:=0.0.0.0"]
    nodes = {n.executable: n.parameters for n in simulation_graph(*parse_arguments(words))}
    camera, robot, viewer = nodes["frame_camera"], nodes["demo_robot"], nodes["viewer"]
    names = ("camera_frame", "map_frame", "preset", "tf_timeout", "always_on")
    assert [camera[name] for name in names] == ["eye", "site", "fast", 2.0, True]
    assert (robot["camera_frame"], robot["map_frame"], viewer["map_frame"], viewer["host"]) == (
        "eye", "site", "site", "0.0.0.0")


def test_the_documentation_lists_every_parameter():
    pytest.importorskip("rclpy")
    text = (ROOT / "docs" / "nodes.md").read_text()
    for name in ("frame_camera", "camera_rig", "demo_robot", "bag_recorder", "viewer"):
        section = text.split(f"## {name}\n")[1].split("\n## ")[0]
        above = set()
        if name == "camera_rig":
            above = {f.name for f in fields(parameters_of_module("worldfm_ros.nodes.frame_camera"))}
        for f in fields(parameters_of_module(f"worldfm_ros.nodes.{name}")):
            if f.name in above:
                continue
            assert f"| `{f.name}` |" in section and f.metadata["text"] in section, f"docs/nodes.md: {name} {f.name}"


def test_the_readme_lists_every_argument():
    table = (ROOT / "README.md").read_text().split("## Arguments")[1].split("## ")[0]
    assert {f.name for f in fields(SimulationArguments)} <= set(re.findall(r"`(\w+)`", table))
