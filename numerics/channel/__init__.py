"""Moments of a scalar channel: Gaussian averages over a peak that narrows with the noise, in compiled kernels."""

from numerics.channel.moments import CLEAN, MATCHED, NOISY, Channel, Moments, Rule
from numerics.channel.replicated import Averages, ReplicatedChannel

__all__ = ["CLEAN", "MATCHED", "NOISY", "Averages", "Channel", "Moments", "ReplicatedChannel", "Rule"]
