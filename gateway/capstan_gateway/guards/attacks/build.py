"""From a guard of type PromptInjection or Jailbreak to its detector. Patterns are imported when a policy has one."""

from capstan_contract.guards import AttackGuard
from capstan_gateway.guards.port import Detector


def build_attack_detector(guard: AttackGuard) -> Detector:
    """Make what a guard asks for. The first one compiles the patterns, which takes some 200 ms."""
    from capstan_gateway.guards.attacks.detector import attack_detector

    return attack_detector(guard)
