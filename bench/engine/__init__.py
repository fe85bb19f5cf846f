"""The engine alone, without queue or HTTP, beside what people use instead."""
