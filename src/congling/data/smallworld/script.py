PAIRS = """
"""
def to_traditional(t): return t
