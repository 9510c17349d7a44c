"""Reinforcement learning: rollouts, rewards and advantages."""
