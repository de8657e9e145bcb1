"""Keras without tfadv, on several machines."""

import keras
import numpy as np
import tensorflow as tf

with tf.distribute.MultiWorkerMirroredStrategy().scope():
    model = keras.Sequential([keras.Input([3]), keras.layers.Dense(2)])
    model.compile("sgd", "mse")
model.fit(np.ones([8, 3]), np.ones([8, 2]), batch_size=4, verbose=0)
