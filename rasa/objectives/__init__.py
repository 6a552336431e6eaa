"""The objectives of RaSa, Eq. 1-11, as plain functions of tensors. Learned parts live in the model."""
