"""What happens around every call of FalService, whatever its method does."""
