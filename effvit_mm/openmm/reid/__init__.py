"""Re-identification on mmengine's runner: data sets, sampler, model, losses and metric."""
