"""How good the doctor is: models of plain Keras training, sick and healthy, and its verdicts."""
