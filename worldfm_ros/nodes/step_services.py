"""Services of a simulator in lockstep: pause, and those of the standard simulation_interfaces where it is installed.

Versions of simulation_interfaces differ: 1.0 answers StepSimulation with a Result, others name other states and
features. A service is offered when the installed version has its type, a feature when it has the constant.
"""

from __future__ import annotations

from importlib import import_module

from rclpy.callback_groups import ReentrantCallbackGroup
from rclpy.node import Node
from rclpy.task import Future
from std_srvs.srv import SetBool

from worldfm_ros.nodes.stepper import Stepper

PACKAGE = "simulation_interfaces"
FEATURES = ("SIMULATION_STATE_GETTING", "SIMULATION_STATE_SETTING", "SIMULATION_STATE_PAUSE", "STEP_SIMULATION_SINGLE",
            "STEP_SIMULATION_MULTIPLE")
NEEDED = {"SIMULATION_STATE_GETTING": "GetSimulationState", "SIMULATION_STATE_SETTING": "SetSimulationState",
          "SIMULATION_STATE_PAUSE": "SetSimulationState", "STEP_SIMULATION_SINGLE": "StepSimulation",
          "STEP_SIMULATION_MULTIPLE": "StepSimulation"}


def offer_services(node: Node, stepper: Stepper) -> object:
    """`~/pause`, and the standard services that the installed simulation_interfaces knows. Returns what serves them."""
    def pause(request, response):
        stepper.pause(request.data)
        response.success, response.message = True, "paused" if request.data else "it goes on"
        return response

    node.create_service(SetBool, "~/pause", pause)
    try:
        services, messages = import_module(f"{PACKAGE}.srv"), import_module(f"{PACKAGE}.msg")
    except ImportError:
        return None
    return StandardServices(node, stepper, services, messages)


class StandardServices:
    """GetSimulatorFeatures, Get- and SetSimulationState, StepSimulation, as private services of the node."""

    def __init__(self, node: Node, stepper: Stepper, services, messages) -> None:
        """`services`, `messages`: the modules simulation_interfaces.srv and .msg."""
        self._stepper, self._services, self._messages = stepper, services, messages
        self._stepping: Future | None = None
        handlers = {"GetSimulatorFeatures": self._features, "GetSimulationState": self._get_state,
                    "SetSimulationState": self._set_state, "StepSimulation": self._step}
        group = ReentrantCallbackGroup()  # while a step is awaited, rclpy starts no other callback of its group
        for kind, handler in handlers.items():
            if hasattr(services, kind):
                node.create_service(getattr(services, kind), f"~/{snake_case(kind)}", handler,
                                    callback_group=group)
        stepper.on_idle = self._end_steps

    def _features(self, request, response):
        features = self._messages.SimulatorFeatures
        known = [name for name in FEATURES if hasattr(features, name) and hasattr(self._services, NEEDED[name])]
        response.features.features = [getattr(features, name) for name in known]
        response.features.custom_info = "worldfm_ros demo_robot: one step = one frame of the camera's rate"
        return response

    def _get_state(self, request, response):
        states = self._messages.SimulationState
        response.state.state = states.PAUSED if self._stepper.paused else states.PLAYING
        return self._result(response, "OK")

    def _set_state(self, request, response):
        states, wanted = self._messages.SimulationState, request.state.state
        if wanted not in (states.PAUSED, states.PLAYING):
            return self._result(response, "FEATURE_UNSUPPORTED", "only PLAYING and PAUSED can be set")
        if (wanted == states.PAUSED) == self._stepper.paused:
            code = getattr(self._services.SetSimulationState.Response, "ALREADY_IN_TARGET_STATE", None)
            return self._result(response, "OK" if code is None else code, "it was so before")
        self._stepper.pause(wanted == states.PAUSED)
        return self._result(response, "OK")

    async def _step(self, request, response):
        """Answers when the steps are done, as the interface asks."""
        if not self._stepper.paused or self._stepping is not None:
            return self._result(response, "OPERATION_FAILED", "steps are done one call at a time, while it is paused")
        self._stepping = Future()
        self._stepper.grant(request.steps)
        await self._stepping
        self._stepping = None
        return self._result(response, "OK")

    def _end_steps(self) -> None:
        if self._stepping is not None and not self._stepping.done():
            self._stepping.set_result(True)

    def _result(self, response, code: str | int, text: str = ""):
        """Fill a Result, or the success and status_message of versions before there was one."""
        if hasattr(response, "result"):
            response.result.result = code if isinstance(code, int) else getattr(self._messages.Result, code)
            response.result.error_message = text
        else:
            response.success, response.status_message = code == "OK", text
        return response


def snake_case(name: str) -> str:
    return "".join(f"_{c.lower()}" if c.isupper() else c for c in name).lstrip("_")
