"""A model of one folder, for `tests.contract.test_third_model`: it inverts a picture."""
