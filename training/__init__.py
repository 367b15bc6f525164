"""The three-stage training stack of the frame model, run from the checkout: python -m training --list"""
