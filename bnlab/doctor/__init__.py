"""Diagnose and mend a Keras model that is good in training and bad in inference.

from bnlab.doctor import examine
print(examine(model, x_train, y_train, x_test, y_test).summary)
"""
