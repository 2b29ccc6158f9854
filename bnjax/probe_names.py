"""The names of all that can be measured in a network: the only list of them.

It is apart from the functions, which need JAX, so that the fields do not.
"""

OF_SAMPLES = (
    *('gradient_norm', 'gradient_spectral_norm'),
    *('activation_mean', 'activation_std'),
    *('activation_quantile_15', 'activation_quantile_50', 'activation_quantile_85'),
    *('activation_slope', 'zero_fraction', 'zero_fraction_std', 'dead_fraction'),
    *('saturated_fraction', 'middle_fraction', 'split_fraction'),
    *('norm_scale', 'norm_scale_std', 'norm_shift', 'norm_shift_std'),
    *('norm_variance_min', 'running_batch_gap'),
)
OF_STEPS = (
    *('activation_mean_drift', 'activation_std_drift'),
    *('gradient_change', 'gradient_cosine'),
    *('covariate_shift', 'covariate_shift_cosine'),
    *('loss_along_step', 'gradient_along_step', 'smoothness_along_step', 'overshoot'),
)
# Not by layer, but as losses and accuracies: at the end of each epoch.
REESTIMATED = 'reestimated_scores'
NAMES = (*OF_SAMPLES, *OF_STEPS, REESTIMATED)
