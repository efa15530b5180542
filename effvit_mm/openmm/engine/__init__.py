"""Training and testing: a runner that resumes exactly, its hooks, bfloat16 on the CPU."""
