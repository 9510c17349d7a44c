"""Other programs that run models, behind one small interface: what our own results are compared with."""
