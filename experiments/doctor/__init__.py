"""Models with known faults, trained with plain Keras: what the doctor's diagnoses are measured on."""
