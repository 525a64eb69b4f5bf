"""What takes several packages: from data to reports, one module for a task."""
