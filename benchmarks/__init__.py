"""The figures of docs/ come from here. From the project's root: python -m benchmarks.NAME"""
