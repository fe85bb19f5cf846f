"""The gateway: parse, admit, dispatch, render. No model code."""
