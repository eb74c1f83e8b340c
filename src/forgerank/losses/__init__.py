"""Pure functions from a batch to a scalar (Eq. 4-18); `total.total_loss` adds them up."""
