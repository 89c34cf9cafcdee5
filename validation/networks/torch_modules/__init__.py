"""Torch modules of others as score functions: the user's own code, TorchScript and `torch.export` files, weights by name."""

from validation.networks.torch_modules.archives import load_exported, load_script
from validation.networks.torch_modules.forms import form_of, is_foreign, is_module
from validation.networks.torch_modules.opened import CONVENTIONS, PREDICTIONS, OpenedModule, module_score, open_module
from validation.networks.torch_modules.user_code import call_function
from validation.networks.torch_modules.weights import Weights, load_weights, read_weights

__all__ = [
    "CONVENTIONS",
    "PREDICTIONS",
    "OpenedModule",
    "Weights",
    "call_function",
    "form_of",
    "is_foreign",
    "is_module",
    "load_exported",
    "load_script",
    "load_weights",
    "module_score",
    "open_module",
    "read_weights",
]
